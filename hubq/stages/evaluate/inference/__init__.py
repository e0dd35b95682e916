"""How a loaded model is run: loading, prefixes run once, batches, likelihoods, generated text.

In come folders and tokens, out come numbers that are proven to be numbers. It knows nothing of
tasks and reports. torch and transformers are imported inside functions, so that who only asks for
measurements need not wait for them.
"""
