#!/usr/bin/env bash
# Starts the speech server on a GPU pod and keeps it running. The image built from this folder runs it; on a bare
# RunPod PyTorch template, run it from a checkout on the volume: it installs into a virtual environment there, once.
#
#   SESAME_VOLUME   what outlives the pod                                         /workspace
#   SESAME_HOME     the server's folder; a .env in it is read                     $SESAME_VOLUME/sesame
#   HF_HOME         where the model's weights are kept                            $SESAME_VOLUME/hf
#   VOICES_DIR      your voices, over the shipped ones; none: no voice at all     $SESAME_HOME/voices
#   SESAME_VENV     virtual environment                                           $SESAME_HOME/venv-<python version>
#   SESAME_INSTALL  auto: install what is missing or outdated; never: all is there    auto
#   SESAME_USER     user to go on as when started as root                         none: stay root
#
# Arguments are passed to `sesame-server serve`, and its settings (ENGINE, HF_TOKEN, SESAME_API_KEY, …) come from
# the environment. Stops the server and ends with 0 on SIGTERM or SIGINT.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
volume=${SESAME_VOLUME:-/workspace}
readonly longest_pause_s=60 steady_after_s=60

note() { printf '%s start.sh: %s\n' "$(date '+%F %T')" "$*" >&2; }
die() {
  note "$*"
  exit 1
}

main() {
  choose_folders
  if [[ $(id -u) == 0 && -n ${SESAME_USER:-} ]]; then
    hand_over_to_user "$@"
  fi
  mkdir -p "$SESAME_HOME" "$HF_HOME" 2>/dev/null || die "cannot write to $SESAME_HOME and $HF_HOME: is the volume mounted there, and may $(id -un) write to it?"
  cd "$SESAME_HOME"
  choose_voices
  check_token
  if [[ ${SESAME_INSTALL:-auto} == never ]]; then
    venv=${SESAME_VENV:?SESAME_INSTALL=never needs SESAME_VENV, where the server is installed}
  else
    choose_venv
    install
  fi
  [[ -x $venv/bin/sesame-server ]] || die "there is no $venv/bin/sesame-server: is SESAME_VENV right?"
  keep_serving "$@"
}

choose_folders() {
  if [[ ! -d $volume ]]; then
    note "there is no $volume: everything is kept under $HOME, and gone with this container"
    volume=$HOME
  fi
  export SESAME_HOME=${SESAME_HOME:-$volume/sesame} HF_HOME=${HF_HOME:-$volume/hf}
  # In the environment, so that a .env made for the call backend cannot move the server off the exposed port.
  export HOST=${HOST:-0.0.0.0} PORT=${PORT:-8000} PYTHONUNBUFFERED=1
}

# So that voices of one's own outlive the pod. VOICES_DIR in the environment, or set in .env, is left alone.
choose_voices() {
  if [[ -z ${VOICES_DIR+set} ]] && ! grep -qsE '^ *(export +)?VOICES_DIR=' .env; then
    export VOICES_DIR=$SESAME_HOME/voices
  fi
}

# A volume belongs to root when it is new. Give the user its two folders on it, and go on as the user.
hand_over_to_user() {
  local user_home folder
  user_home=$(getent passwd "$SESAME_USER" | cut -d: -f6) || die "SESAME_USER=$SESAME_USER: there is no such user here"
  local as_user=(setpriv --reuid "$(id -u "$SESAME_USER")" --regid "$(id -g "$SESAME_USER")" --init-groups --)
  for folder in SESAME_HOME HF_HOME; do
    mkdir -p "${!folder}" || true
    find "${!folder}" ! -user "$SESAME_USER" -exec chown -h "$SESAME_USER:" {} + || true
    if ! "${as_user[@]}" test -w "${!folder}"; then
      note "$SESAME_USER may not write to ${!folder}: using $user_home/${!folder##*/}, gone with this container"
      export "$folder=$user_home/${!folder##*/}"
    fi
  done
  exec "${as_user[@]}" env HOME="$user_home" "$BASH" "${BASH_SOURCE[0]}" "$@"
}

# The one thing a new pod lacks most often, told before minutes of installing.
check_token() {
  local model=${CSM_MODEL:-sesame/csm-1b}
  if [[ ${ENGINE:-} == preview || -d $model || -d $HF_HOME/hub/models--${model//\//--}/snapshots ||
    -s $HF_HOME/token ]] || grep -qsE '^ *(export +)?HF_TOKEN=.' .env; then
    return
  fi
  local what="HF_TOKEN is not set"
  if [[ ${HF_TOKEN:-} == *'{{'* ]]; then
    what="HF_TOKEN holds the name of a secret that does not exist"
  elif [[ -n ${HF_TOKEN:-} ]]; then
    return
  fi
  local todo="accept the licence at https://huggingface.co/$model, make a read token at"
  todo+=" https://huggingface.co/settings/tokens, give it to the pod as HF_TOKEN, and restart"
  if [[ -n ${ENGINE:-} ]]; then
    die "$what and $model is not on the volume: $todo"
  fi
  note "$what, so without weights on the volume the preview voice speaks instead of CSM: $todo"
}

choose_venv() {
  python=$(find_python) || die "Python 3.11 or newer is needed, with its venv module: choose another template"
  venv=${SESAME_VENV:-$SESAME_HOME/venv-$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')}
}

# Prefers a Python that has torch: the template's own, built for its CUDA.
find_python() {
  local need candidate
  for need in venv,ensurepip,torch venv,ensurepip; do
    for candidate in ${SESAME_PYTHON:+"$SESAME_PYTHON"} python3 python python3.13 python3.12 python3.11; do
      if "$candidate" -c "
import sys
from importlib.util import find_spec
sys.exit(sys.version_info < (3, 11) or not all(find_spec(name) for name in '$need'.split(',')))" 2>/dev/null; then
        command -v "$candidate"
        return
      fi
    done
  done
  return 1
}

install() {
  [[ -f $repository/pyproject.toml ]] || die "$repository is no checkout to install from: clone the repository there"
  (
    # Pods that share a volume install one after another.
    flock -w 1800 9 || note "the volume has no locks, or another pod holds one for long: going on without"
    install_alone
  ) 9>"$SESAME_HOME/install.lock" ||
    die "installing failed, for the reason above. Disk: $(df -h "$SESAME_HOME" | tail -n 1)"
}

# Called where `set -e` has no effect, so every step says itself that a failure ends it.
install_alone() {
  local extras=csm,local,aac wanted
  [[ ${ENGINE:-} != preview ]] || extras=local,aac
  if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
    note "making $venv with $python"
    "$python" -m venv --clear --system-site-packages "$venv" || return
  fi
  wanted="$extras $("$venv/bin/python" -V) $(cat "$repository"/{pyproject.toml,constraints.txt} | sha256sum)"
  if [[ -x $venv/bin/sesame-server && $(cat "$venv/installed" 2>/dev/null) == "$wanted" ]]; then
    return 0
  fi
  note "installing [$extras] into $venv; the first time takes some minutes"
  # torch stays what the template brought: built for its CUDA, and as large as all the rest together.
  grep -viE '^(torch|triton|nvidia-.*)==' "$repository/constraints.txt" >"$venv/constraints.txt" || return
  "$venv/bin/python" -m pip install --disable-pip-version-check --quiet \
    -c "$venv/constraints.txt" -e "${repository}[$extras]" || return
  printf '%s\n' "$wanted" >"$venv/installed"
}

# Serve until told to stop; a server that dies is started again, at once at first, then ever more patiently.
keep_serving() {
  local child='' stopping='' examined='' pause_s=1 started_s status
  trap 'stopping=yes; [[ -z $child ]] || kill -TERM "$child" 2>/dev/null || true' TERM INT
  while [[ -z $stopping ]]; do
    started_s=$SECONDS
    "$venv/bin/sesame-server" serve "$@" &
    child=$!
    note "server started, process $child"
    [[ -z $stopping ]] || kill -TERM "$child" 2>/dev/null || true # told between the question and the start
    await_child
    [[ $status != 0 ]] || break
    [[ -z $stopping ]] || break
    note "server ended with status $status$(meaning_of "$status")"
    if [[ $status == 1 && -z $examined ]]; then
      examined=yes
      "$venv/bin/sesame-server" doctor >&2 || true
    fi
    ((SECONDS - started_s < steady_after_s)) || pause_s=1
    note "starting it again in $pause_s s"
    sleep "$pause_s" &
    child=$!
    await_child
    pause_s=$((pause_s * 2 < longest_pause_s ? pause_s * 2 : longest_pause_s))
  done
  note "server stopped"
}

# Sets `status`. A signal to this script interrupts `wait`, so wait again while there is something to wait for.
await_child() {
  status=0
  wait "$child" || status=$?
  while kill -0 "$child" 2>/dev/null; do
    status=0
    wait "$child" || status=$?
  done
}

meaning_of() {
  case $1 in
    1) echo " (it cannot start, and says above why)" ;;
    137) echo " (killed: out of memory, if nobody did it by hand)" ;;
    *) (($1 <= 128)) || echo " (signal $(kill -l "$1"))" ;;
  esac
}

main "$@"
