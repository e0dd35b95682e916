"""The HTML of the hub's pages. Jinja escapes all that is put in."""

import base64
import hashlib

CSS = """
:root { color-scheme: light dark; --ink: #1c1e26; --soft: #606676; --line: #e2e5ec;
  --paper: #fff; --tint: #f5f6f9; --mark: #b4530a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ee; --soft: #9aa1b2; --line: #2d323f;
  --paper: #0b0f19; --tint: #151b29; --mark: #f0a35e; } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 64rem; padding: 0 1.25rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.6 system-ui, sans-serif; }
header { display: flex; gap: 1.5rem; align-items: baseline; padding: 1.2rem 0;
  border-bottom: 1px solid var(--line); }
header a:last-child { margin-left: auto }
a { color: var(--mark); text-decoration: none } a:hover { text-decoration: underline }
h1, h2, h3 { line-height: 1.25 } h2 { margin-top: 2.2rem }
table { border-collapse: collapse; display: block; overflow-x: auto; max-width: 100%;
  margin: 1.2rem 0; font-size: .92em }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top }
th { text-align: left }
section td:first-child { min-width: 10rem }
td.number, [align=right] { text-align: right; font-variant-numeric: tabular-nums }
td.number { white-space: nowrap }
[align=center] { text-align: center }
img { max-width: 100%; height: auto; border-radius: .4rem }
pre { padding: 1rem; overflow-x: auto; border-radius: .5rem; background: var(--tint) }
code { font: .9em ui-monospace, monospace }
:not(pre) > code { padding: .1em .35em; border-radius: .3em; background: var(--tint) }
section, h1 { overflow-wrap: break-word }
blockquote { margin-left: 0; padding-left: 1rem; border-left: 3px solid var(--line) }
ul.tags { display: flex; flex-wrap: wrap; gap: .4rem; padding: 0; list-style: none }
ul.tags li { padding: 0 .6rem; border: 1px solid var(--line); border-radius: 1rem;
  color: var(--soft); font-size: .85rem }
summary { cursor: pointer; margin: 1.2rem 0 }
@media (max-width: 40rem) { body { font-size: 15px; padding: 0 1rem 3rem }
  th, td { padding: .3rem .4rem } section td:first-child { min-width: 6.5rem } }
.soft { color: var(--soft); font-size: .9rem }
article { padding: .5rem 0 1rem; border-bottom: 1px solid var(--line) }
"""
CSS_HASH = base64.b64encode(hashlib.sha256(CSS.encode()).digest()).decode()

LAYOUT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{% block title %}hub{% endblock %}</title>
<style>{{ css }}</style>
</head>
<body>
<header><a href="/"><strong>hubq hub</strong></a> <span class="soft">a Hub of your own</span>
{% if visitor %}<span>{{ visitor }}</span>{% else %}<a href="/login">sign in</a>{% endif %}</header>
<main>{% block main %}{% endblock %}</main>
</body>
</html>
"""

SIGN_IN = """<p><a href="/login">Sign in</a> to see private repos: any name will do, and the
password is one of your tokens. <code>hubq hub token</code> prints a new one.</p>"""

HOME = (
    """{% extends "layout" %}
{% block main %}
{% for title, repos in shelves if repos %}
<h2>{{ title }}</h2>
<table>
{% for repo in repos %}
<tr><td><a href="/{{ repo.address }}">{{ repo.full_name }}</a></td>
<td class="soft">{% if repo.private %}private{% elif repo.gate != "no" %}gated{% endif %}</td>
<td class="soft">{{ repo.when }}</td></tr>
{% endfor %}
</table>
{% else %}
{% if visitor %}
<p>There is nothing here yet. <code>hf upload namespace/name folder</code> uploads a first repo.</p>
{% else %}
<p>There are no public repos here.</p>
"""
    + SIGN_IN
    + """
{% endif %}
{% endfor %}
{% endblock %}
"""
)

MISSING = (
    """{% extends "layout" %}
{% block title %}Not found{% endblock %}
{% block main %}
<h1>Not found</h1>
<p>This doesn't exist, or it is private.</p>
{% if not visitor %}
"""
    + SIGN_IN
    + """
{% endif %}
{% endblock %}
"""
)

REPO = """{% extends "layout" %}
{% block title %}{{ name }}{% endblock %}
{% block main %}
<h1>{{ name }}</h1>
<ul class="tags">{% for tag in tags %}<li>{{ tag }}</li>{% endfor %}</ul>
{% if card %}<section>{{ card }}</section>{% else %}<p class="soft">No card yet.</p>{% endif %}
{% if is_cut %}<p class="soft">The card is longer than a page: see README.md.</p>{% endif %}
{% if metadata %}<details><summary>Metadata of the card</summary>
<pre>{{ metadata }}</pre></details>{% endif %}
<h2>Files</h2>
<table>{% for file in files %}
<tr><td><a href="/{{ address }}/resolve/main/{{ file.path | urlencode }}">{{ file.path }}</a></td>
<td class="number">{{ file.size }}</td>
<td class="soft">{% if file.large %}large{% endif %}</td></tr>{% endfor %}
</table>
<h2>Commits</h2>
<table>{% for commit in commits %}
<tr><td><a href="/{{ address }}/commit/{{ commit.id }}">{{ commit.title }}</a></td>
<td class="soft">{{ commit.author }}</td><td class="soft">{{ commit.when }}</td></tr>{% endfor %}
</table>
{% endblock %}
"""

COMMIT = """{% extends "layout" %}
{% block title %}{{ commit.title }}{% endblock %}
{% block main %}
<p><a href="/{{ address }}">{{ name }}</a></p>
<h1>{{ commit.title }}</h1>
<p class="soft">{{ commit.id }} by {{ commit.author }}, {{ commit.when }}</p>
{% if commit.message %}<pre>{{ commit.message }}</pre>{% endif %}
<pre>{{ diff }}</pre>
{% endblock %}
"""

DISCUSSION = """{% extends "layout" %}
{% block title %}{{ discussion.title }}{% endblock %}
{% block main %}
<p><a href="/{{ address }}">{{ name }}</a></p>
<h1>{{ discussion.title }} <span class="soft">#{{ discussion.num }}</span></h1>
<p class="soft">{{ "pull request" if discussion.pull_request else "discussion" }},
{{ discussion.status }}</p>
{% for event in events %}
<article><p class="soft">{{ event.author }}, {{ event.when }}</p>
<pre>{{ event.text }}</pre></article>
{% endfor %}
{% endblock %}
"""

TEMPLATES = {
    "layout": LAYOUT,
    "home": HOME,
    "missing": MISSING,
    "repo": REPO,
    "commit": COMMIT,
    "discussion": DISCUSSION,
}
