#!/usr/bin/env bash
# Emulates several hosts on one machine. Each of h1, h2, ... has network, UTS, mount and process
# namespaces of its own (address 10.77.0.i, own /dev/shm); a bridge in another namespace connects
# them. Needs root, iproute2 and util-linux. The network of the machine itself is not changed.
# usage: hosts.sh up [N]             create h1..hN (default 3)
#        hosts.sh exec HOST CMD...   run a command on a host
#        hosts.sh head CMD...        run a command on h1's network that survives `kill h1`
#        hosts.sh agent              print the program for mpirun's plm_rsh_agent
#        hosts.sh rate HOST RATE     limit both directions, as in 100mbit; `off` removes the limit
#        hosts.sh cut HOST           disconnect a host from the network
#        hosts.sh join HOST          connect it again
#        hosts.sh kill HOST          kill all processes of a host
#        hosts.sh down               remove all hosts
set -u
folder=${UNIPOOL_HOSTS:-${TMPDIR:-/tmp}/unipool-hosts}
bridge=unipool-switch

# Prints the process id, outside of the namespace, of the first process of a host.
pid_of() { cat "$folder/$1.pid"; }
namespace_of() { echo "unipool-$1"; }

make_network() {
  local i host
  ip netns add "$bridge" || return 1
  ip -n "$bridge" link add br0 type bridge
  ip -n "$bridge" link set br0 mtu 9000 up
  ip -n "$bridge" link set lo up
  for i in $(seq "$1"); do
    host=h$i
    ip netns add "$(namespace_of "$host")"
    ip -n "$bridge" link add "p$i" mtu 9000 type veth \
      peer name eth0 mtu 9000 netns "$(namespace_of "$host")"
    ip -n "$bridge" link set "p$i" master br0 up
    ip -n "$(namespace_of "$host")" addr add "10.77.0.$i/24" dev eth0
    ip -n "$(namespace_of "$host")" link set eth0 up
    ip -n "$(namespace_of "$host")" link set lo up
  done
}

# Starts the first process of a host. nsenter leaves /sys as it is; `ip netns exec` would mount it
# again.
boot() {
  local host=$1 outer first
  setsid nsenter --net="/run/netns/$(namespace_of "$host")" \
    unshare --uts --mount --pid --fork --kill-child \
    sh -c "hostname $host && mount -t tmpfs tmpfs /dev/shm &&
           mount --bind $folder/hosts /etc/hosts && exec sleep infinity" \
    < /dev/null > /dev/null 2>&1 &
  outer=$!
  for _ in $(seq 100); do
    first=$(ps -o pid= --ppid "$outer" | tr -d ' ')
    if [ -n "$first" ] && [ "$(nsenter -t "$first" --uts hostname 2> /dev/null)" = "$host" ]; then
      echo "$first" > "$folder/$host.pid"
      return 0
    fi
    sleep 0.05
  done
  echo "hosts.sh: $host did not start within 5 s" >&2
  return 1
}

# Runs a command on a host with the /proc of that host, which daemons read.
run_on() {
  local host=$1
  shift
  exec nsenter -t "$(pid_of "$host")" --net --uts --mount --pid --wd="$PWD" -- \
    unshare --mount sh -c 'mount -t proc proc /proc && exec "$@"' sh "$@"
}

limit_rate() {
  local host=$1 rate=$2 port=p${1#h} space
  space=$(namespace_of "$host")
  ip netns exec "$space" tc qdisc del dev eth0 root 2> /dev/null
  ip netns exec "$bridge" tc qdisc del dev "$port" root 2> /dev/null
  [ "$rate" = off ] && return 0
  ip netns exec "$space" tc qdisc add dev eth0 root tbf rate "$rate" burst 256kb latency 50ms &&
    ip netns exec "$bridge" tc qdisc add dev "$port" root tbf rate "$rate" burst 256kb latency 50ms
}

bring_up() {
  local count=$1 i
  mkdir -p "$folder"
  rm -f "$folder"/*.pid
  { echo 127.0.0.1 localhost; for i in $(seq "$count"); do echo "10.77.0.$i h$i"; done; } \
    > "$folder/hosts"
  # mpirun calls the agent as: agent HOST COMMAND...
  cat > "$folder/agent.sh" << AGENT
#!/usr/bin/env bash
host=\$1
shift
exec nsenter -t "\$(cat "$folder/\$host.pid")" --net --uts --mount --pid --wd=/ -- sh -c "\$*"
AGENT
  chmod +x "$folder/agent.sh"
  make_network "$count" || return 1
  for i in $(seq "$count"); do boot "h$i" || return 1; done
}

take_down() {
  local file space
  for file in "$folder"/*.pid; do
    [ -s "$file" ] && kill -KILL "$(cat "$file")" 2> /dev/null
  done
  sleep 0.3
  for space in $(ip netns list | awk '/^unipool-/ {print $1}'); do ip netns del "$space"; done
  rm -rf "$folder"
}

case ${1:-} in
  up) bring_up "${2:-3}" ;;
  exec) shift && run_on "$@" ;;
  head) shift && exec nsenter -t "$(pid_of h1)" --net --uts --mount --wd="$PWD" -- "$@" ;;
  agent) echo "$folder/agent.sh" ;;
  rate) limit_rate "$2" "$3" ;;
  cut) ip -n "$bridge" link set "p${2#h}" down ;;
  join) ip -n "$bridge" link set "p${2#h}" up ;;
  kill) kill -KILL "$(pid_of "$2")" ;;
  down) take_down ;;
  *) sed -n '2,13p' "$0" >&2; exit 2 ;;
esac
