#!/usr/bin/env bash
# An environment of its own for clip-retrieval: it wants an older numpy, pandas and pyarrow than clipmill.
# build_clip_retrieval.sh FOLDER
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
env=$1
torch=2.13.0 torchvision=0.28.0
pip() { "$env/bin/python" -m pip --disable-pip-version-check install -q "$@"; }

rm -rf "$env"
"${PYTHON:-python3}" -m venv "$env"
# The CPU's build where an index that pip knows has one and there is no NVIDIA driver; PyPI's brings CUDA along.
{ ! command -v nvidia-smi >/dev/null && pip "torch==$torch+cpu" 2>/dev/null; } || pip "torch==$torch"
pip --no-deps "torchvision==$torchvision"
pip -r "$here/clip_retrieval.txt"
# PyPI's torchvision looks for operators that its CUDA library defines, which a CPU torch cannot load.
cp "$here/../../kit/torchvision_operators.py" "$("$env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/sitecustomize.py"
"$env/bin/python" -c 'import clip_retrieval, open_clip'
touch "$env/.built"
