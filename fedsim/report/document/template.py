"""The page as a template of Jinja, which escapes whatever is put into it.

It stands in a Python file because Flower packs no others with an app.
"""

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{{ document.title }} · {{ document.kicker }}</title>
<style>{{ style }}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header class="top">
<p class="kicker">{{ document.kicker }}</p>
<h1>{{ document.title }}</h1>
{% if document.lead %}<p class="lead">{{ document.lead }}</p>{% endif %}
</header>
<div class="frame">
<nav aria-label="Contents"><ul>
{% for section in document.sections %}
<li><a href="#{{ section.anchor }}">{{ section.title }}</a></li>
{% endfor %}
</ul></nav>
<main id="content">
{% for block in document.summary %}{{ show(block, "summary-" ~ loop.index) }}{% endfor %}
{% for section in document.sections %}
<section id="{{ section.anchor }}" aria-labelledby="{{ section.anchor }}-title">
<h2 id="{{ section.anchor }}-title">{{ section.title }}</h2>
{% for block in section.blocks %}{{ show(block, section.anchor ~ "-" ~ loop.index) }}{% endfor %}
</section>
{% endfor %}
</main>
</div>
<footer><p>{{ document.footer }}</p></footer>
<script>{{ script }}</script>
</body>
</html>
"""

BLOCKS = """\
{% macro show(block, id) %}{% if block.kind == "text" %}{{ text(block) }}
{% elif block.kind == "sentences" %}{{ sentences(block) }}
{% elif block.kind == "facts" %}{{ facts(block) }}
{% elif block.kind == "code" %}{{ code(block) }}
{% elif block.kind == "picture" %}{{ picture(block) }}
{% elif block.kind == "table" %}{{ table(block, id) }}
{% elif block.kind == "tabs" %}{{ tabs(block, id) }}
{% endif %}{% endmacro %}

{% macro text(block) %}
<p{% if block.role != "plain" %} class="{{ block.role }}"{% endif %}>{{ block.text }}</p>
{% endmacro %}

{% macro sentences(block) %}
<ul class="sentences">
{% for sentence in block.sentences %}<li>{{ sentence }}</li>
{% endfor %}</ul>
{% endmacro %}

{% macro facts(block) %}
<dl class="{{ "numbers" if block.large else "facts" }}">
{% for term, said in block.facts.items() %}<div><dt>{{ term }}</dt><dd>{{ said }}</dd></div>
{% endfor %}</dl>
{% endmacro %}

{% macro code(block) %}
{% if block.is_line %}
<p class="label">{{ block.title }}</p>
<pre><code>{{ block.text }}</code></pre>
{% else %}
<details><summary>{{ block.title }}</summary>
<pre><code>{{ block.text }}</code></pre>
</details>
{% endif %}
{% endmacro %}

{% macro picture(block) %}
<figure><div class="scroll">
<img src="{{ block.uri | safe }}" alt="{{ block.alt }}" width="{{ block.size[0] }}"
 height="{{ block.size[1] }}"></div></figure>
{% endmacro %}

{% macro table(block, id) %}
<div class="table{% if block.is_tall %} tall{% endif %}">
<div class="scroll" role="region" aria-labelledby="{{ id }}-caption">
<table>
<caption id="{{ id }}-caption">{{ block.caption }}</caption>
<thead><tr>
{% for heading in block.headings %}
<th scope="col"{% if block.is_numeric(loop.index0) %} class="number"{% endif %}>\
<button type="button" class="sort">{{ heading }}</button></th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in block.rows %}
<tr>{% for cell in row %}{% set tag = "th" if loop.first else "td" %}\
<{{ tag }}{% if loop.first %} scope="row"{% endif %}\
{% if cell.key is not none %} data-key="{{ cell.order }}"{% endif %}\
{% set look = ["number" if block.is_numeric(loop.index0), "wide" if cell.is_long, cell.tone] \
| select | join(" ") %}\
{% if look %} class="{{ look }}"{% endif %}>{{ cell.text }}</{{ tag }}>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
</div>
{% if block.note %}<p class="note">{{ block.note }}</p>{% endif %}
</div>
{% endmacro %}

{% macro tabs(block, id) %}
<div class="tabs">
<div role="tablist" aria-label="{{ block.label }}" hidden>
{% for title in block.tabs %}
<button type="button" role="tab" id="{{ id }}-{{ loop.index }}-tab" \
aria-controls="{{ id }}-{{ loop.index }}">{{ title }}</button>
{% endfor %}
</div>
{% for title, inner in block.tabs.items() %}
<div class="panel" id="{{ id }}-{{ loop.index }}">
<h3>{{ title }}</h3>
{{ show(inner, id ~ "-" ~ loop.index ~ "-1") }}
</div>
{% endfor %}
</div>
{% endmacro %}
"""
