"""What engines are asked to score and to go on from."""

TEXTS = (
    "Photosynthesis is the process by which plants, algae and some bacteria turn the energy of "
    "light into chemical energy. In plants it takes place in the leaves, where a green pigment "
    "absorbs mostly red and blue light. Water is split, oxygen is set free, and sugars are made "
    "from carbon dioxide. Without it there would be",
    "The old lighthouse keeper climbed the stairs every evening at six. He carried oil for the "
    "lamp, a loaf of bread and the newspaper of the day before. On the last night of October the "
    "door at the top was already open, and somebody had lit the lamp before him. He put down the "
    "bread and",
    "To compute the greatest common divisor of two whole numbers, divide the larger one by the "
    "smaller one and keep the remainder. Then divide the smaller one by that remainder, and so "
    "on, until nothing remains. The last divisor is the answer. For example, of 48 and 36 it is",
    "The council met on Tuesday to discuss the budget for the coming year. Members agreed to "
    "repair the bridge over the river first, since the inspection in spring had found rust in "
    "three of its beams. The mayor said that the work would cost less than two million and that",
)
PROMPT, NEW = 56, 32  # tokens of a text, and after it
