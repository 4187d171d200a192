"""Talks to a Hub with huggingface_hub: `check_hub.py fetch|offline|push ...`, called by tests/hub/python.rs.

The environment names the Hub, the cache and the token. Prints one line of JSON.
"""

import hashlib
import json
import os
import sys

os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import huggingface_hub  # noqa: E402


def contents(folder):
    """SHA-256 by path of all files below a folder."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder)] = hashlib.sha256(file.read()).hexdigest()
    return found


def fetch(repo_type, repo_id, revision, offline):
    folder = huggingface_hub.snapshot_download(
        repo_id, repo_type=repo_type, revision=revision, local_files_only=offline
    )
    return {"folder": folder, "files": contents(folder)}


def push(repo_type, repo_id, folder):
    api = huggingface_hub.HfApi()
    api.create_repo(repo_id, repo_type=repo_type, private=True, exist_ok=True)
    info = api.upload_folder(repo_id=repo_id, repo_type=repo_type, folder_path=folder, commit_message="from Python")
    return {"commit": info.oid}


def main():
    what, *rest = sys.argv[1:]
    if what == "push":
        answer = push(*rest)
    else:
        answer = fetch(*rest, offline=what == "offline")
    answer["version"] = huggingface_hub.__version__
    print(json.dumps(answer))


main()
