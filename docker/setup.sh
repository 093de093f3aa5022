#!/usr/bin/env bash
# Installs the project into .venv: with uv where it is, else with pip. Nothing to do when nothing changed since the last time.
set -euo pipefail
cd "$(dirname "$0")/.."

stamp=.venv/.installed
inputs=(pyproject.toml constraints.txt)
if [ -f "$stamp" ] && [ "$stamp" -nt "${inputs[0]}" ] && [ "$stamp" -nt "${inputs[1]}" ]; then
  exit 0
fi

supported='import sys; sys.exit(sys.version_info < (3, 11))'
python=
for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
  if "$candidate" -c "$supported" 2>/dev/null; then python=$candidate && break; fi
done

install_python() {
  if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "installing python3 python3-venv"
    apt-get update -q >/dev/null </dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3 python3-venv >/dev/null </dev/null
  else
    echo "missing: Python 3.11 or newer with venv; install with: sudo apt-get install -y python3 python3-venv" >&2
    exit 1
  fi
}

if [ -z "$python" ]; then install_python && python=python3; fi
echo "installing the project into .venv ($("$python" --version))"
if command -v uv >/dev/null; then
  uv venv -q --allow-existing --python "$python" .venv
  uv pip install -q --python .venv/bin/python -c constraints.txt -e . --group dev
else
  "$python" -c 'import ensurepip' 2>/dev/null || install_python
  "$python" -m venv .venv
  # The first pip that knows dependency groups is 25.1.
  .venv/bin/python -m pip install -q 'pip>=25.1'
  .venv/bin/python -m pip install -q -c constraints.txt -e . --group dev
fi
touch "$stamp"
