"""The built site: without warnings, complete, and loaded from nowhere else."""

import importlib.util
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import dd_jax as dd
from dd_jax.cli import COMMANDS
from dd_jax.presets import PRESETS

ROOT = Path(__file__).parents[2]
LOADS = {"src", "srcset", "poster", "data", "xlink:href"}  # attributes that make a browser load something
LINKS_THAT_LOAD = {"stylesheet", "icon", "preload", "preconnect", "dns-prefetch", "modulepreload", "manifest"}


class Page(HTMLParser):
    """loaded: what the page loads; links: what it links to; ids: what can be linked to; classes; text."""

    def __init__(self, path: Path):
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.classes: set[str] = set()
        self.text, self._in = "", ""
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        values = {name: value or "" for name, value in attrs}
        self._in = tag
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        self.classes |= set(values.get("class", "").split())
        self.loaded += [values[name] for name in LOADS & set(values)]
        self.loaded += re.findall(r"url\(([^)]*)\)", values.get("style", ""))
        if tag in ("use", "image") or (tag == "link" and LINKS_THAT_LOAD & set(values.get("rel", "").split())):
            self.loaded.append(values.get("href", ""))
        if tag == "a" and "href" in values:
            self.links.append(values["href"])

    def handle_data(self, data):
        self.text += data
        if self._in == "style":
            self.loaded += re.findall(r"url\(([^)]*)\)|@import ['\"]([^'\"]*)", data)
        if self._in == "script":
            self.loaded += re.findall(r"(?:https?:)?//[\w.]+\.\w+[^\s\"']*", data)


def hook(name: str):
    """A file of docs/hooks as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "hooks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def test_there_is_a_page_for_each_source_and_no_other_file(site, pages):
    sources = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert {path.relative_to(site) for path in pages} == sources | {Path("404.html")}
    assert not list(site.rglob("*.py"))


def test_nothing_is_loaded_from_elsewhere(site, pages):
    outside = re.compile(r"^\s*(\w+:)?//")
    for path, page in pages.items():
        assert page.loaded, path
        assert not [url for url in page.loaded if outside.match(str(url))], path
        assert "mermaid" not in page.classes, "the theme would load a script for it"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(\w+:)?//", sheet.read_text()), sheet


def test_what_is_loaded_is_there(site, pages):
    for path, page in pages.items():
        for url in page.loaded:
            if path.name != "404.html" and not url.startswith(("data:", "#")):
                assert (path.parent / unquote(urlsplit(url).path)).resolve().is_file(), (path, url)


def test_every_internal_link_leads_somewhere(site, pages):
    for path, page in pages.items():
        for link in page.links if path.name != "404.html" else []:
            to = urlsplit(link)
            if to.scheme:
                assert to.scheme in ("http", "https"), link
                continue
            target = (path.parent / unquote(to.path)).resolve() if to.path else path
            assert target.is_file(), (path, link)
            if to.fragment and target.suffix == ".html":
                assert unquote(to.fragment) in pages[target].ids, (path, link)


def test_the_search_has_its_index_as_a_script_and_a_worker_in_a_frame(site, pages):
    """So that it works on pages that are read from the disk, where browsers read no json and start no worker."""
    script = (site / "search" / "search_index.js").read_text()
    assert script.startswith("var __index = ")
    index = json.loads(script.removeprefix("var __index = "))
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    assert {path.relative_to(site).as_posix() for path in pages} - found == {"404.html"}
    for path, page in pages.items():
        assert any(url.endswith("assets/iframe-worker.js") for url in page.loaded), path


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no browser")
def test_a_browser_finds_a_word_from_the_disk(site):
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    address = f"{(site / 'guides' / 'faq.html').as_uri()}?q=hypergradient"
    done = subprocess.run(["chromium", *options, address], capture_output=True, text=True, timeout=120, check=True)
    results = re.findall(r'class="md-search-result__link"', done.stdout)
    assert len(results) > 5


def test_every_public_name_is_in_the_reference(site, pages):
    ids = set().union(*(page.ids for path, page in pages.items() if path.parent.name == "reference"))
    names = {name for name in dd.__all__ if not name.startswith("__") and not inspect.ismodule(getattr(dd, name))}
    assert not {name for name in names if f"dd_jax.{name}" not in ids}
    assert {f"{make.__module__}.{make.__name__}" for make in dd.models.MODELS.values()} <= ids


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_of_commands_has_every_option(name, site, pages, capsys):
    with pytest.raises(SystemExit):
        COMMANDS[name](["--help"])
    wanted = set(re.findall(r"(?<=[ ,])--[a-z][a-z0-9-]+", capsys.readouterr().out))
    page = pages[site / "reference" / "commands.html"]
    assert f"dd-jax-{name}" in page.ids
    assert "--help" in wanted
    assert not {option for option in wanted if option not in page.text}


def test_the_page_of_commands_has_every_preset(site, pages):
    text = pages[site / "reference" / "commands.html"].text
    assert not {name for name in PRESETS if name.removesuffix("-paper") not in text}


def test_formulas_are_drawn_by_the_browser(site):
    text = (site / "concepts" / "unrolling.html").read_text()
    assert text.count("<math ") > 10
    assert "arithmatex" not in text
    assert "<svg" in text.partition('class="drawing"')[2][:200]
    merror = [path for path in site.rglob("*.html") if "<merror" in path.read_text()]
    assert not merror


@pytest.mark.parametrize(
    ("line", "name", "text"),
    [
        ("--seed INT      Of everything. (default: 0)", "--seed INT", "Of everything. (default: 0)"),
        ("PATH            Run directory. (required)", "PATH", "Run directory. (required)"),
        ("[STR]           A name.", "[STR]", "A name."),
    ],
)
def test_an_option_is_read_from_a_line_of_help(line, name, text):
    (found,) = hook("pages")._options(iter([line]))
    assert re.sub("<[^>]*>", "", found[0]) == name
    assert found[1] == text


def test_an_empty_table_is_an_error():
    with pytest.raises(ValueError, match="nothing to put"):
        hook("pages").table(["option"], [])
