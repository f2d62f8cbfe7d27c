"""The pages of the repository's root join those of docs, and links keep their targets."""

import html
import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
OUTSIDE = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
LINK = re.compile(r"(\]\()([^)#:\s]+)")
CODE_IN_ROW = re.compile(r"`([^`\n]*\\\|[^`\n]*)`")


def on_files(files, config):
    for name in OUTSIDE:
        files.append(File(name, str(ROOT), config["site_dir"], config["use_directory_urls"]))
    return files


def on_page_markdown(markdown, page, config, files):
    path = page.file.src_uri  # here; in the repository it is:
    source = path if path in OUTSIDE else join("docs", path)

    def target(match):
        wanted = normpath(join(dirname(source), match[2]))
        here = wanted if wanted in OUTSIDE else relpath(wanted, "docs")
        if files.get_file_from_path(here):
            return match[1] + relpath(here, dirname(path) or ".")
        if not (ROOT / wanted).exists():
            return match[0]  # mkdocs says so, and fails
        return f"{match[1]}{config['repo_url']}/blob/main/{wanted}"

    def code(match):  # GitHub's tables want \| in code, where Python-Markdown shows it
        return f"<code>{html.escape(match[1])}</code>".replace("\\|", "&#124;")

    return CODE_IN_ROW.sub(code, LINK.sub(target, markdown))
