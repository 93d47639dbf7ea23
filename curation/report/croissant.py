"""`croissant.json` of a release: files, checksums and records in the Croissant 1.0 vocabulary, for catalogues and loaders."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curation.report.release_facts import ReleaseFacts
from curation.shard_format import INDEX_COLUMNS, INDEX_NAME, SHARD_FOLDER

_MEDIA_TYPES = {
    "png": "image/png", "jpg": "image/jpeg", "gif": "image/gif", "webp": "image/webp", "bmp": "image/bmp", "tif": "image/tiff",
}  # fmt: skip
_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_INDEX_FIELDS = {
    "sample_id": "Id from source and content, the same for all occurrences.",
    "source": "The public dataset it is from.",
    "category": "The kind of skill it teaches.",
    "repeat": "Which occurrence of the sample this is, from 0.",
    "shard": "Number of its shard, from 0.",
    "offset_bytes": "Where its first tar header begins in the shard.",
    "num_bytes": "Length of its members with headers and padding.",
    "num_images": "Images it has.",
    "num_tokens": "Tokens it has, as the release counts them.",
}
_NUMBERS = {"repeat", "shard", "offset_bytes", "num_bytes", "num_images", "num_tokens"}


def describe(folder: Path, release: ReleaseFacts) -> dict[str, Any]:
    """The JSON-LD document for the release at `folder`."""
    illustrated = [name.rpartition(".")[2] for name in release.image_members]
    extensions = sorted(set(illustrated), key=illustrated.index)
    return {
        "@context": dict(_CONTEXT),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": release.name,
        "description": (
            f"{release.num_samples:,} multimodal instruction samples with {release.num_images:,} images from "
            f"{len(release.present)} sources, as WebDataset shards. Fingerprint {release.fingerprint}."
        ),
        "license": list(release.licenses),
        "version": f"1.0.0+{release.fingerprint}",
        "keywords": ["multimodal", "instruction tuning", *(category.name for category in release.categories)],
        "isLiveDataset": False,
        "distribution": [*_files(folder, release), *_file_sets(release, extensions)],
        "recordSet": [_samples(), *([_images()] if extensions else []), _index()],
    }


def _files(folder: Path, release: ReleaseFacts) -> list[dict[str, Any]]:
    shards = [
        _file(shard.name, f"{SHARD_FOLDER}/{shard.name}", "application/x-tar", shard.num_bytes, shard.sha256)
        for shard in release.shards
    ]
    index = folder / INDEX_NAME
    with index.open("rb") as handle:
        sha256 = hashlib.file_digest(handle, "sha256").hexdigest()
    return [*shards, _file(INDEX_NAME, INDEX_NAME, "application/x-parquet", index.stat().st_size, sha256)]


def _file(name: str, url: str, media_type: str, num_bytes: int, sha256: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": url,
        "contentSize": f"{num_bytes} B",
        "encodingFormat": media_type,
        "sha256": sha256,
    }


def _file_sets(release: ReleaseFacts, extensions: Sequence[str]) -> list[dict[str, Any]]:
    within = [{"@id": shard.name} for shard in release.shards]
    sets = [_file_set("sample-files", "One JSON file a sample.", within, ["json"], ["application/json"])]
    if extensions:
        media_types = [_MEDIA_TYPES[extension] for extension in extensions]
        sets.append(_file_set("image-files", "Images as their sources published them.", within, extensions, media_types))
    return sets


def _file_set(
    name: str, description: str, within: Sequence[Mapping[str, str]], extensions: Sequence[str], media_types: Sequence[str]
) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "description": description,
        "containedIn": list(within),
        "encodingFormat": list(media_types),
        "includes": [f"*.{extension}" for extension in extensions],
    }


def _samples() -> dict[str, Any]:
    def field(name: str, description: str, **more: Any) -> dict[str, Any]:
        source = {"fileSet": {"@id": "sample-files"}, "extract": {"jsonPath": f"$.{name}"}}
        return _field("samples", name, description, "sc:Text", source) | more

    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "name": "samples",
        "description": "One record a sample occurrence.",
        "key": {"@id": "samples/id"},
        "field": [
            field("id", "Id from source and content; a repeated sample's ends in -r<k>."),
            field("source", "The public dataset it is from."),
            field("category", "The kind of skill it teaches."),
            field("license", "The source's licence."),
            field("conversations", "Turns, each with `from` (human, gpt) and `value`.", repeated=True),
            field("images", "For each image its name behind `<id>.`, width, height and sha256.", repeated=True),
        ],
    }


def _images() -> dict[str, Any]:
    def field(name: str, description: str, data_type: str, taken: Mapping[str, Any]) -> dict[str, Any]:
        return _field("image-members", name, description, data_type, {"fileSet": {"@id": "image-files"}, **taken})

    file_name = {"extract": {"fileProperty": "filename"}}
    of_sample = {**file_name, "transform": {"regex": r"^([^.]+)\."}}
    return {
        "@type": "cr:RecordSet",
        "@id": "image-members",
        "name": "image-members",
        "description": "One record an image of a sample occurrence.",
        "field": [
            field("sample", "Id of its sample, as in `samples`.", "sc:Text", of_sample),
            field("name", "Name behind `<id>.`.", "sc:Text", {**file_name, "transform": {"regex": r"^[^.]+\.(.+)$"}}),
            field("content", "The picture.", "sc:ImageObject", {"extract": {"fileProperty": "content"}}),
        ],
    }


def _index() -> dict[str, Any]:
    def field(name: str) -> dict[str, Any]:
        source = {"fileObject": {"@id": INDEX_NAME}, "extract": {"column": name}}
        return _field("index", name, _INDEX_FIELDS[name], "sc:Integer" if name in _NUMBERS else "sc:Text", source)

    return {
        "@type": "cr:RecordSet",
        "@id": "index",
        "name": "index",
        "description": "Where each sample occurrence lies, in stream order.",
        "field": [field(name) for name in INDEX_COLUMNS],
    }


def _field(record_set: str, name: str, description: str, data_type: str, source: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{record_set}/{name}",
        "name": name,
        "description": description,
        "dataType": data_type,
        "source": dict(source),
    }
