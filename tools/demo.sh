#!/usr/bin/env bash
# The demo: trains, serves and uses a head, then swaps in a better one without a restart.
#
# tools/demo.sh          the whole demo; stops everything that it started
# tools/demo.sh --serve  only the set-up; leaves the server running in the foreground
#
# DEMO_BASE names a base file to use instead of the one chosen here.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly work=.demo
readonly bin=target/release
readonly task=surface
readonly weights=resnet34-imagenet1k-v1
readonly bundled=assets/base-textures.safetensors
readonly grpc_port=${DEMO_PORT:-50051}
readonly admin_port=${DEMO_ADMIN_PORT:-9090}
readonly server=http://127.0.0.1:$grpc_port
readonly admin=http://127.0.0.1:$admin_port

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
die() { printf 'demo: %s\n' "$*" >&2; exit 1; }

started=()
stop_all() {
    for pid in "${started[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
}
trap stop_all EXIT

# Prints a page of the admin port. python3 is required anyway, curl may be missing.
get() { python3 -c 'import sys, urllib.request as r; sys.stdout.write(r.urlopen(sys.argv[1], timeout=5).read().decode())' "$admin$1"; }

wait_until_ready() {
    for _ in $(seq 300); do
        if get /readyz >/dev/null 2>&1; then return; fi
        kill -0 "$1" 2>/dev/null || { cat "$work/server.log" >&2; die "the server exited; its log is above"; }
        sleep 0.1
    done
    cat "$work/server.log" >&2
    die "the server did not become ready; its log is above"
}

choose_base() {
    if [ -n "${DEMO_BASE:-}" ]; then
        echo "$DEMO_BASE"
        return
    fi
    if [ ! -e "$work/imagenet.safetensors" ] && [ ! -e "$work/no-network" ]; then
        # Fails at once without a network, and is then not retried until `make clean-demo`.
        "$bin/turret" base fetch "$weights" --directory "$work" -o "$work/imagenet.safetensors" >"$work/fetch.log" 2>&1 ||
            touch "$work/no-network"
    fi
    if [ -e "$work/imagenet.safetensors" ]; then
        echo "$work/imagenet.safetensors"
    else
        echo "$bundled"
    fi
}

# Skips the trial of fine-tuning, which takes minutes if the linear head is sometimes wrong (docs/training.md).
train() {
    "$bin/fine-tune" train "$1" --task "$task" --base "$base" --heads "$work/heads" --cache "$work/cache" \
        --good ok --strategy feature-extraction --output text
}

classify() { "$bin/turret" classify --server "$server" --task "$task" --truth --output table "$@" "$work/held-out"; }

metrics() { get /metrics | grep -E '^turret_(requests_total|verdicts_total|head_info|head_reloads_total|heads_serving|batch_images_(sum|count))' | sort; }

python3 - "$grpc_port" "$admin_port" <<'PY' || die "stop the program that listens there, or set DEMO_PORT and DEMO_ADMIN_PORT"
import socket, sys
for port in map(int, sys.argv[1:]):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError as error:
            sys.exit(f"demo: cannot use port {port}: {error.strerror}")
PY

mkdir -p "$work"
say "The base: a frozen ResNet34"
base=$(choose_base)
"$bin/turret" base inspect "$base"
if [ "$base" = "$bundled" ]; then
    echo
    echo "NOTE: no ImageNet weights are here, and there is no network to fetch them. This is the bundled base, trained on"
    echo "generated textures (${bundled%.safetensors}.md): for trying Turret, not for real work. With a network:"
    echo "    $bin/turret base fetch $weights -o base.safetensors"
    echo "    DEMO_BASE=base.safetensors make demo"
fi

say "The data: six classes of steel surface, generated from a seed"
rm -rf "$work/data-1" "$work/data-2" "$work/held-out" "$work/heads"
"$bin/surfaces" "$work/data-1" --per-class 5
"$bin/surfaces" "$work/data-2" --per-class 60 >/dev/null
"$bin/surfaces" "$work/held-out" --start 1000 --per-class 6 >/dev/null
mkdir -p "$work/heads"

say "fine-tune trains version 1 from 5 pictures per class"
train "$work/data-1"

say "turret serve"
"$bin/turret" serve --base "$base" --heads "$work/heads" \
    --listen "127.0.0.1:$grpc_port" --admin "127.0.0.1:$admin_port" 2>"$work/server.log" &
server_pid=$!
started+=("$server_pid")
wait_until_ready "$server_pid"
echo "gRPC on $server, metrics on $admin/metrics, log in $work/server.log"

if [ "${1:-}" = --serve ]; then
    say "It serves until you press Ctrl-C. Try, in another terminal:"
    echo "$bin/turret heads --server $server"
    echo "$bin/turret classify --server $server --task $task --truth $work/held-out"
    echo "$bin/fine-tune train $work/data-2 --task $task --base $base --heads $work/heads --good ok --strategy feature-extraction"
    trap 'kill -TERM "$server_pid" 2>/dev/null' INT TERM
    wait "$server_pid" || true
    exit 0
fi

say "turret classify sends pictures that the head has never seen"
classify
metrics >"$work/metrics-before"

say "fine-tune trains version 2 from 60 pictures per class while requests keep coming"
"$bin/turret" classify --server "$server" --task "$task" --repeat --concurrency 2 --output json "$work/held-out" \
    >"$work/load.json" &
load_pid=$!
started+=("$load_pid")
train "$work/data-2"
# The head is published; requests continue until the server serves it.
for _ in $(seq 300); do
    if get /metrics | grep -q 'turret_head_info{.*version="2"} 1'; then break; fi
    sleep 0.1
done
sleep 2
kill -INT "$load_pid"
wait "$load_pid" && load=0 || load=$?
echo
echo "Meanwhile, over gRPC:"
python3 - "$work/load.json" <<'PY'
import json, sys
counts = json.load(open(sys.argv[1]))
by_version = ", ".join(f"{n} by version {v}" for v, n in counts["versions"].items())
print(f"  {counts['answered']} requests answered ({by_version})")
print(f"  {counts['failed']} requests failed")
PY
[ "$load" -eq 0 ] || die "requests failed during the swap"

say "The same pictures again: version 2 answers, the server was not restarted"
classify

say "Metrics that changed"
metrics >"$work/metrics-after"
diff --unchanged-line-format= --old-line-format='- %L' --new-line-format='+ %L' \
    "$work/metrics-before" "$work/metrics-after" || true

say "Stopping"
stop_all
started=()
trap - EXIT
tail -n 1 "$work/server.log"
echo "make serve leaves it running; make clean-demo removes $work/"
