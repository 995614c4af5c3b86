# Sourced by the tools: `environment FOLDER EXTRAS` makes a virtual environment with the package and its extras,
# unless it is there already, and puts it first on the path. Runs from the project's root.

environment() {
  local folder=$1 extras=$2 python stamp
  stamp="$(cksum setup.cfg) $extras"
  if [ "$(cat "$folder/.installed" 2>/dev/null)" != "$stamp" ]; then
    for python in "${PYTHON:-python3}" python3.13 python3.12 python3.11 ""; do
      if [ -z "$python" ]; then
        echo "Python 3.11 to 3.13 is needed; name one: PYTHON=/path/to/python $0" >&2
        exit 2
      fi
      "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && break
    done
    echo "Installing into $folder (once) ..." >&2
    "$python" -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[$extras]"
    echo "$stamp" >"$folder/.installed"
  fi
  PATH="$PWD/$folder/bin:$PATH"
}
