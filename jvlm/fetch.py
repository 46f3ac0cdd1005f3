"""Downloads the published files of a data set as its card names them: `jvlm data fetch`.

A file appears under its name only whole and with the right hash. Where the publisher gives no hash, the one that was
seen is kept in `fetched.json`, so that later runs at least notice that a file is the same.
"""

import hashlib
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from jvlm.errors import DataError, UsageError
from jvlm.files import new_file, read_json, sha256_file, write_json

RECORD = "fetched.json"
TIMEOUT_SECONDS = 60
_BLOCK_BYTES = 2**20


def fetch(card: dict[str, Any], out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Download the files of `card` to `out`; returns its name and licence, and what was done with each file.

    `card["files"]` is a list of ``{url, sha256 or null, bytes or null, path}``; `path` is the name below `out`, by
    default the last part of the URL. The licence is said before anything is downloaded. A file that is there with the
    right hash is not downloaded again. What was seen is recorded in ``out/fetched.json``.

    Raises:
        UsageError: the card has no files; its `how` says where the set is to be got.
        DataError: the server cannot be reached or refuses, or a file's hash or size is not the published one; what
            was there before stays.
    """
    say(f"{card.get('title', card['name'])}\nlicence: {card['licence']}\nsource: {card['source']}")
    if not card.get("files"):
        raise UsageError(
            f"'{card['name']}' is not downloaded by jvlm", fix=str(card.get("how") or f"see {card['source']}").strip()
        )
    seen = _record(out / RECORD)
    done = {"fetched": 0, "present": 0, "unverified": 0}
    for file in card["files"]:
        url, published, size = file["url"], file.get("sha256"), file.get("bytes")
        name = file.get("path") or unquote(urlsplit(url).path).rpartition("/")[2]
        target = out / name
        known = published or seen.get(name, {}).get("sha256")
        if known and target.is_file() and sha256_file(target) == known:
            digest = known
            done["present"] += 1
        else:
            say(f"{name}: downloading {url}")
            digest = _download(url, target, published, size)
            done["fetched"] += 1
        if published:
            say(f"{name}: sha256 {digest}, as published")
        else:
            done["unverified"] += 1
            say(f"{name}: sha256 {digest}, could not be verified: the publisher gives no hash")
        seen[name] = {"url": url, "sha256": digest, "bytes": target.stat().st_size, "verified": bool(published)}
        write_json(out / RECORD, {"name": card["name"], "licence": card["licence"], "files": seen})
    if card.get("then"):
        say(str(card["then"]).strip())
    return {"name": card["name"], "licence": card["licence"], "out": str(out)} | done


def _record(path: Path) -> dict[str, Any]:
    """What earlier runs saw, by file name. Raises DataError when the file is not a record of ours."""
    record = read_json(path) if path.exists() else {"files": {}}
    if not isinstance(record, dict) or not isinstance(record.get("files"), dict):
        raise DataError("not a record of downloaded files", where=path, fix="name another folder")
    return record["files"]


def _download(url: str, target: Path, sha256: str | None, size: int | None) -> str:
    """Stream `url` to `target`; returns the hash of what came. Raises DataError, and then leaves `target` as it was."""
    digest, received = hashlib.sha256(), 0
    with new_file(target) as file:
        for block in _blocks(url):
            digest.update(block)
            received += len(block)
            file.write(block)
        if size is not None and received != size:
            raise DataError(f"{received} bytes came, published are {size}", where=url, fix="run the command again")
        if sha256 is not None and digest.hexdigest() != sha256:
            what = f"the hash is {digest.hexdigest()}, published is {sha256}"
            raise DataError(what, where=url, fix="it was not kept; the publisher may have changed the file")
    return digest.hexdigest()


def _blocks(url: str) -> Iterator[bytes]:
    """The body of an http(s) address. Raises DataError for every way in which the network can fail."""
    _check_scheme(url)
    received, announced = 0, None
    try:
        request = Request(url, headers={"User-Agent": "jvlm"})  # some publishers refuse urllib's own name
        with build_opener(_CheckedRedirects).open(request, timeout=TIMEOUT_SECONDS) as response:
            announced = response.headers.get("Content-Length")
            while block := response.read(_BLOCK_BYTES):
                received += len(block)
                yield block
    except HTTPError as error:
        raise DataError(f"the server answered {error.code} {error.reason}", where=url) from None
    except URLError as error:
        raise _unreachable(url, error.reason) from None
    except (OSError, HTTPException) as error:
        raise _unreachable(url, error) from None
    # a connection that ends early looks like the end of the body
    if announced is not None and announced.isdigit() and received != int(announced):
        raise _unreachable(url, f"the connection ended after {received} of {announced} bytes")


class _CheckedRedirects(HTTPRedirectHandler):
    """Follows redirects within http(s), never from https back to http."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Request | None:
        _check_scheme(newurl)
        if urlsplit(req.full_url).scheme == "https" != urlsplit(newurl).scheme:
            raise DataError(f"the server redirects from https to {newurl}", where=req.full_url)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_scheme(url: str) -> None:
    if urlsplit(url).scheme not in ("http", "https"):
        raise DataError("not an http or https address", where=url)


def _unreachable(url: str, reason: object) -> DataError:
    return DataError(f"cannot be downloaded: {reason}", where=url, fix="check the connection and run the command again")
