#!/usr/bin/env bash
# A Docker Swarm of several engines on one kernel, for the end-to-end tests.
#
# A node is a dockerd with namespaces of its own (network, mounts, processes,
# host name, cgroups) and its own disk in memory. A veth cable joins it to a
# bridge in one more network namespace, the switch; the machine itself gets no
# address, route or packet filter rule. Labs never meet: several may run at once
# with the same addresses. Everything is named after the lab and removed by name
# and process id.
#
#   lab.sh check                    can this machine run a lab? (exit status, reason on stderr)
#   lab.sh NAME up [COUNT] [OPTION]   1 to 9 nodes; node 1 is the manager; then `client` is plugged in
#       --no-swarm                  engines only
#       --managers                  every node a manager
#       --owner PID                 `sweep` removes the lab once this process is gone
#   lab.sh NAME docker NODE ARG..   the Docker client on a node
#   lab.sh NAME exec PLACE CMD..    a command in a place's network: 1..9, `client` or a plugged name
#   lab.sh NAME load FILE..         image archives into every node
#   lab.sh NAME plug PLACE ADDRESS  one more place on the switch, without an engine
#   lab.sh NAME kill NODE           power cut;  stop NODE: orderly;  start NODE: back with its disk
#   lab.sh NAME cut PLACE           pull the cable;  heal PLACE: plug it back in
#   lab.sh NAME down                remove the lab
#   lab.sh sweep                    remove labs whose owner is gone
#
# Node N has the address 198.18.7.(10+N), the client 198.18.7.9 (RFC 2544's test range).
set -euo pipefail

ROOT=${TIDEGATE_LAB_ROOT:-/run/tidegate-lab}
NET=198.18.7
DISK=${TIDEGATE_LAB_DISK:-1g}          # size limit of a node's disk
HEARTBEAT=${TIDEGATE_LAB_HEARTBEAT:-1s}  # a dead node shows within about five of these
SELF=$(readlink -f "${BASH_SOURCE[0]}")
PATH=$PATH:/usr/sbin:/sbin
unset DOCKER_HOST DOCKER_CONTEXT DOCKER_API_VERSION

die() { echo "lab: $*" >&2; exit 1; }

# until_true SECONDS COMMAND..: polls; the last error is shown when time is up
until_true() {
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS >= end)); then "$@" >&2 || true; echo "lab: gave up waiting for: $*" >&2; return 1; fi
    sleep 0.1
  done
}

netns() { echo "tg-$LAB-$1"; }
address() { case $1 in client) echo "$NET.9" ;; *) echo "$NET.$((10 + $1))" ;; esac; }
engine() { local n=$1; shift; docker -H "unix://$DIR/$n/docker.sock" "$@"; }
place() { if [[ $1 == switch || ! -e /run/netns/$(netns "$1") ]]; then die "no such place: $1"; fi; }
is_node() { [[ $1 =~ ^[1-9]$ && -d $DIR/$1 ]] || die "no such node: $1"; }
nodes() { local d; for d in "$DIR"/[1-9]; do [[ ! -d $d ]] || basename "$d"; done; }

# ---- processes, always as "id start-time": an id alone may have been reused -------------------------

stamp() {
  local stat fields
  stat=$(<"/proc/$1/stat") || return 1
  read -ra fields <<<"${stat##*) }"        # from the third on: the second may hold blanks
  echo "$1 ${fields[19]}"                  # the 22nd, proc(5)
}
lives() { # lives FILE
  local id when
  [[ -s $1 ]] && read -r id when <"$1" && [[ $(stamp "$id" 2>/dev/null) == "$id $when" ]]
}

# ---- cgroups: one subtree per node in every hierarchy, version 1 and 2 ------------------------------

hierarchies() { awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts | sort -u; }
unified() { [[ $(stat -fc %T /sys/fs/cgroup) == cgroup2fs ]]; }

hand_down() { # version 2: children of GROUP may use all its controllers
  local c
  for c in $(<"$1/cgroup.controllers"); do echo "+$c" >"$1/cgroup.subtree_control" 2>/dev/null || true; done
}

enter_cgroup() { # moves this shell
  local h group
  for h in $(hierarchies); do
    if [[ -e $h/cgroup.controllers ]] && ! unified; then continue; fi   # hybrid: names only
    group=$h
    for part in tidegate-lab "$LAB" "$1"; do
      if [[ -e $group/cgroup.controllers ]]; then hand_down "$group"; fi
      mkdir -p "$group/$part"
      if [[ -e $group/cpuset.cpus && ! -e $group/cgroup.controllers ]]; then
        cat "$group/cpuset.cpus" >"$group/$part/cpuset.cpus"             # version 1 starts out empty
        cat "$group/cpuset.mems" >"$group/$part/cpuset.mems"
      fi
      group=$group/$part
    done
    echo "$BASHPID" >"$group/cgroup.procs"
  done
}

remove_cgroups() {
  local h
  for h in $(hierarchies); do
    if [[ -d $h/tidegate-lab/$LAB ]]; then find "$h/tidegate-lab/$LAB" -depth -type d -exec rmdir {} \; 2>/dev/null || true; fi
    rmdir "$h/tidegate-lab" 2>/dev/null || true
  done
}

# ---- network ------------------------------------------------------------------------------------------

plug() { # plug PLACE ADDRESS
  ip netns add "$(netns "$1")"
  ip -n "$(netns switch)" link add "p-$1" type veth peer name eth0 netns "$(netns "$1")"
  ip -n "$(netns switch)" link set "p-$1" master br0 up
  ip -n "$(netns "$1")" link set lo up
  ip -n "$(netns "$1")" link set eth0 up
  ip -n "$(netns "$1")" addr add "$2/24" dev eth0
}

make_switch() {
  ip netns add "$(netns switch)"
  ip -n "$(netns switch)" link add br0 type bridge
  ip -n "$(netns switch)" link set br0 up
}

# ---- a node -------------------------------------------------------------------------------------------

# Runs inside the node's fresh namespaces and becomes its engine.
boot() {
  local n=$1 c
  hostname "node$n"
  mount -t sysfs sysfs /sys
  if [[ $LAB_UNIFIED == 1 ]]; then
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    # A group that hands controllers down may hold no process: we and our parent (moved from
    # outside, `start_node`) go into a leaf.
    mkdir -p /sys/fs/cgroup/init && echo 1 >/sys/fs/cgroup/init/cgroup.procs
    for _ in $(seq 100); do
      hand_down /sys/fs/cgroup
      if grep -q pids /sys/fs/cgroup/cgroup.subtree_control; then break; fi
      sleep 0.05
    done
  else
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    for c in $(awk '!/^#/ && $2 > 0 { print $1 }' /proc/cgroups) name=systemd; do
      if grep -q "[:,]$c:" /proc/self/cgroup; then
        mkdir "/sys/fs/cgroup/${c#name=}"
        mount -t cgroup -o "$c" cgroup "/sys/fs/cgroup/${c#name=}"
      fi
    done
  fi
  # A private /run (the engine's sockets and state) in which the lab's directory still shows.
  mount -t tmpfs tmpfs /mnt
  mkdir /mnt/lab && mount --rbind "$DIR" /mnt/lab
  mount -t tmpfs -o mode=755 tmpfs /run
  mkdir -p "$DIR" /run/lock
  mount --move /mnt/lab "$DIR"
  umount /mnt
  mkdir -p /etc/docker && mount -t tmpfs tmpfs /etc/docker      # no settings of the machine's engine
  # The only name server is the node itself, where none listens: lookups fail at once.
  echo "nameserver $(address "$n")" >/run/resolv.conf
  mount --bind /run/resolv.conf "$(readlink -f /etc/resolv.conf)"
  mkdir -p /run/tools                                           # where the default iptables cannot work
  if [[ ${TIDEGATE_LAB_IPTABLES:-} ]]; then
    for c in iptables ip6tables; do ln -s "$(command -v "$c-$TIDEGATE_LAB_IPTABLES")" "/run/tools/$c"; done
  fi
  export PATH=/run/tools:$PATH
  exec tini -s -- dockerd --data-root "$DIR/$n/disk" --exec-root /run/docker --pidfile /run/docker.pid \
    -H "unix://$DIR/$n/docker.sock" -H unix:///run/docker.sock \
    --bridge none --userland-proxy=false
}

start_node() {
  local n=$1 d=$DIR/$1
  mkdir -p "$d/disk"
  mountpoint -q "$d/disk" || mount -t tmpfs -o "size=$DISK,mode=711" tmpfs "$d/disk"
  rm -f "$d/docker.sock"
  (
    enter_cgroup "$n"
    LAB_UNIFIED=0; if unified; then LAB_UNIFIED=1; fi
    export LAB_UNIFIED
    # A session of its own: a Ctrl-C for the tests is not one for the engines.
    exec setsid nsenter --net="/run/netns/$(netns "$n")" \
      unshare --mount --propagation private --pid --fork --kill-child --mount-proc --uts --ipc --cgroup \
      "$SELF" "$LAB" boot "$n" >>"$d/engine.log" 2>&1 </dev/null
  ) &
  local launcher=$!
  stamp "$launcher" >"$d/launcher"
  if unified; then
    until_true 20 test -d "/sys/fs/cgroup/tidegate-lab/$LAB/$n/init"
    echo "$launcher" >"/sys/fs/cgroup/tidegate-lab/$LAB/$n/init/cgroup.procs"
  fi
}

answers() { engine "$1" version; }

first_process() { # of a node's process namespace: killing it kills everything in there
  local launcher
  lives "$DIR/$1/launcher" || return 1
  read -r launcher _ <"$DIR/$1/launcher"
  tr -d ' ' 2>/dev/null <"/proc/$launcher/task/$launcher/children" | grep .
}

end_node() { # end_node SIGNAL NODE
  local pid
  if pid=$(first_process "$2"); then
    kill "-$1" "$pid"
    until_true 15 gone "$pid" 2>/dev/null || { kill -KILL "$pid"; until_true 15 gone "$pid"; }
  fi
  if lives "$DIR/$2/launcher"; then read -r pid _ <"$DIR/$2/launcher"; kill -KILL "$pid" 2>/dev/null || true; fi
  rm -f "$DIR/$2/launcher"
}
gone() { [[ ! -d /proc/$1 ]]; }

# ---- the whole lab --------------------------------------------------------------------------------------

ready_nodes() { [[ $(engine 1 node ls --format '{{.Status}}' | grep -cx Ready) == "$1" ]]; }

give_up() { # of `up`: show why, leave nothing behind
  local status=$?
  if ((status)); then tail -n 20 "$DIR"/[1-9]/engine.log >&2 || true; down; fi
  exit "$status"
}

up() {
  local count=1 swarm=1 role=worker n token owner=
  while (($#)); do
    case $1 in
      [1-9]) count=$1 ;;
      --no-swarm) swarm=0 ;;
      --managers) role=manager ;;
      --owner) owner=$2; shift ;;
      *) die "up: what is $1?" ;;
    esac
    shift
  done
  if [[ -e $DIR ]]; then die "$LAB is up already"; fi
  mkdir -p "$DIR"
  trap give_up EXIT
  if [[ $owner ]]; then stamp "$owner" >"$DIR/owner"; fi
  make_switch
  plug client "$(address client)"
  for n in $(seq "$count"); do plug "$n" "$(address "$n")"; start_node "$n"; done
  for n in $(seq "$count"); do until_true 60 answers "$n"; done
  ((swarm)) || return 0
  engine 1 swarm init --dispatcher-heartbeat "$HEARTBEAT" --advertise-addr "$(address 1)" >/dev/null
  token=$(engine 1 swarm join-token -q "$role")
  for n in $(seq 2 "$count"); do
    engine "$n" swarm join --token "$token" --advertise-addr "$(address "$n")" "$(address 1):2377" >/dev/null
  done
  until_true 60 ready_nodes "$count"
}

down() {
  local n space
  for n in $(nodes); do
    end_node KILL "$n" || true
    umount -l "$DIR/$n/disk" 2>/dev/null || true
  done
  for space in /run/netns/tg-"$LAB"-*; do
    if [[ -e $space ]]; then ip netns del "$(basename "$space")"; fi
  done
  until_true 5 no_cgroups 2>/dev/null || true
  rm -rf --one-file-system "$DIR"
  rmdir "$ROOT" 2>/dev/null || true
}
no_cgroups() { local h; remove_cgroups; for h in $(hierarchies); do [[ ! -d $h/tidegate-lab/$LAB ]] || return 1; done; }

sweep() {
  for DIR in "$ROOT"/*; do
    [[ -d $DIR && -e $DIR/owner ]] || continue
    LAB=$(basename "$DIR")
    lives "$DIR/owner" || { echo "lab: removing $LAB, whose owner is gone" >&2; down; }
  done
}

load() {
  local n f jobs=()
  for n in $(nodes); do
    (for f in "$@"; do engine "$n" load -q -i "$f" >/dev/null; done) & jobs+=($!)
  done
  for n in "${jobs[@]}"; do wait "$n"; done
}

check() {
  local tool
  probe=tg-probe-$$
  [[ $EUID == 0 ]] || die "needs root"
  for tool in docker dockerd containerd runc iptables ip nsenter unshare tini setsid; do
    command -v "$tool" >/dev/null || die "$tool is missing"
  done
  [[ $(hierarchies) ]] || die "no cgroups are mounted"
  unshare --mount --pid --fork --mount-proc --uts --ipc --cgroup --propagation private \
    sh -c 'hostname probe && mount -t tmpfs tmpfs /mnt' 2>/dev/null || die "may not make namespaces or mounts"
  ip netns add "$probe" 2>/dev/null || die "may not make network namespaces"
  trap 'ip netns del "$probe"' EXIT
  ip -n "$probe" link add br0 type bridge 2>/dev/null || die "the kernel has no bridges"
  ip -n "$probe" link add v0 type veth peer name v1 2>/dev/null || die "the kernel has no veth"
  ip -n "$probe" link add x0 type vxlan id 7 dstport 4789 dev br0 2>/dev/null || die "the kernel has no VXLAN"
  LAB=probe-$$
  (enter_cgroup 1) 2>/dev/null || { remove_cgroups; die "may not make cgroups"; }
  remove_cgroups
}

case ${1:-} in
  check) check; exit ;;
  sweep) sweep; exit ;;
  '' | -*) sed -n '2,/^set -e/{/^set -e/d;s/^# \{0,1\}//;p}' "$SELF"; exit 2 ;;
esac
LAB=$1 command=${2:-} DIR=$ROOT/$1
[[ $LAB =~ ^[a-z0-9-]{1,32}$ ]] || die "a lab's name is made of a-z, 0-9 and -"
shift; shift || true
case $command in
  up) up "$@" ;;
  boot) boot "$1" ;;
  down) down ;;
  docker) is_node "$1"; engine "$@" ;;
  exec) place "$1"; space=$(netns "$1"); shift; exec ip netns exec "$space" "$@" ;;
  load) load "$@" ;;
  plug) plug "$1" "$2" ;;
  kill) is_node "$1"; end_node KILL "$1" ;;
  stop) is_node "$1"; end_node TERM "$1" ;;
  start) is_node "$1"; if ! lives "$DIR/$1/launcher"; then start_node "$1"; fi; until_true 60 answers "$1" ;;
  cut) place "$1"; ip -n "$(netns switch)" link set "p-$1" down ;;
  heal) place "$1"; ip -n "$(netns switch)" link set "p-$1" up ;;
  *) die "what is '$command'? (lab.sh without arguments explains)" ;;
esac
