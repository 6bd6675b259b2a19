#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Builds, starts and removes the lab. Everything it makes is called palisade-something or lies in .cache/lab;
# it removes nothing else.
set -euo pipefail

lab=$(cd "$(dirname "$0")" && pwd)
state=$(cd "$lab/../.." && pwd)/.cache/lab
repository=localhost/palisade-lab
gateways=(198.51.100.1 198.51.100.65 203.0.113.1)
hosts=(mail1 web1 db1 client1 router1 inet1)
export CONTAINERS_CONF=$lab/containers.conf

# The tag is a digest of the recipe: the image is built again when the recipe changes, and only then.
image_tag() {
    (cd "$lab/image" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum) | sha256sum | cut -c 1-12
}

image() {
    local tag
    tag=$(image_tag)
    mkdir -p "$state"
    podman image exists "$repository:$tag" && return
    echo 'lab: building the image from Debian packages (half a minute, this once)'
    remove_images
    "$lab/image/build.sh" "$repository:$tag" "$state/image.tar" > "$state/image.log" 2>&1 ||
        { cat "$state/image.log"; return 1; }
}

key() {
    [[ -f $state/id_ed25519 ]] || ssh-keygen -q -t ed25519 -N '' -C palisade-lab -f "$state/id_ed25519"
    cp "$state/id_ed25519.pub" "$state/authorized_keys"
}

# Leaves a whole lab, or none.
up() {
    [[ $EUID -eq 0 ]] || { echo 'lab: containers that filter packets need root' >&2; return 1; }
    image
    down
    key
    echo "lab: starting ${hosts[*]}"
    keep_forwarding
    start || { down; return 1; }
}

# podman makes a router of the machine, for which a lab with a router of its own has no use.
keep_forwarding() {
    forwarding=$(sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding)
    trap 'sysctl --quiet --load=- <<< "$forwarding" > /dev/null' EXIT
}

# An interrupt from the keyboard does not reach another session: podman that dies halfway forgets to give back addresses
# and bridges. The script itself ends when podman has finished.
whole() {
    setsid --wait "$@"
}
trap 'exit 130' INT TERM

# Networks get new names each time, since addresses that podman 4.3 forgot to give back stay taken, by network name.
start() {
    LAB_IMAGE_TAG=$(image_tag) LAB_RUN=$(date +%s) \
        whole podman-compose --file "$lab/compose.yml" up --detach > "$state/compose.log" 2>&1 ||
        { cat "$state/compose.log"; echo 'lab: is one of its networks in use by something else?'; return 1; }
    local host
    for host in "${hosts[@]}"; do
        wait_for "$host" || return
    done
}

wait_for() {
    local answer='' deadline=$((SECONDS + 60))
    while ((SECONDS < deadline)); do
        # Fails while systemd is not there to be asked yet.
        answer=$(podman exec "palisade-$1" systemctl is-system-running --wait 2>&1) && return
        [[ $answer != degraded ]] || break
        sleep 0.2
    done
    echo "lab: $1 did not start: $answer"
    podman exec "palisade-$1" systemctl --failed --no-legend || true
    return 1
}

down() {
    local networks
    whole podman rm --force --ignore --time 0 "${hosts[@]/#/palisade-}" > /dev/null
    mapfile -t networks < <(podman network ls --quiet --filter label=io.podman.compose.project=palisade)
    [[ ${#networks[@]} -eq 0 ]] || whole podman network rm --force "${networks[@]}" > /dev/null
    remove_forgotten_bridges
}

# A podman that was killed leaves a bridge behind, empty and with our address, and would not start where it is.
remove_forgotten_bridges() {
    local address bridge
    for address in "${gateways[@]}"; do
        bridge=$(ip -oneline address show to "$address" type bridge | awk '{print $2}')
        if [[ $bridge == podman* && -z $(ip link show master "$bridge") ]]; then
            ip link delete "$bridge"
        fi
    done
}

remove_images() {
    local images
    mapfile -t images < <(podman images --quiet --filter "reference=$repository" | sort -u)
    [[ ${#images[@]} -eq 0 ]] || podman rmi --force "${images[@]}" > /dev/null
}

# A machine on which the lab never ran may not even have podman.
clean() {
    if command -v podman > /dev/null; then
        down
        remove_images
    fi
    rm -rf "$state"
}

# Boots hosts anew: their network namespaces, and what the kernel held in them, are new.
restart() {
    keep_forwarding
    whole podman restart --time 5 "${@/#/palisade-}" > /dev/null
    local host
    for host in "$@"; do
        # A unit that fails may be what a test is about.
        wait_for "$host" || [[ $(podman exec "palisade-$host" systemctl is-system-running) == degraded ]] || return
    done
}

case ${1:-} in
    image | up | down | clean | restart) "$@" ;;
    *) echo "usage: $0 image|up|down|clean|restart HOST..." >&2; exit 2 ;;
esac
