#!/usr/bin/env python3
"""Enforces NetworkPolicies on the node with nftables (IPv4, one node).

It reads pods, namespaces and policies each second and, when they have changed,
swaps one table of nftables in a single step. Like a real policy engine it lets
the node itself, with the kubelet's probes, reach its pods: that traffic is not
forwarded, so the chain here never sees it.
"""

import json
import subprocess
import time


def get(kind):
    return json.loads(subprocess.check_output(["kubectl", "get", kind, "-A", "-o", "json"], timeout=30))["items"]


def labels(thing):
    return thing["metadata"].get("labels") or {}


def namespace(thing):
    return thing["metadata"]["namespace"]


def address(pod):
    return pod["status"]["podIP"]


def selects(selector, of):
    if any(of.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for rule in selector.get("matchExpressions") or []:
        value, values = of.get(rule["key"]), rule.get("values") or []
        holds = {"In": value in values, "NotIn": value not in values, "Exists": value is not None, "DoesNotExist": value is None}
        if not holds[rule["operator"]]:
            return False
    return True


def has_address(pod):
    ended = pod["status"].get("phase") in ("Succeeded", "Failed")
    return pod["status"].get("podIP") and not pod["spec"].get("hostNetwork") and not ended


class Rules:
    """The ruleset for what the API server tells."""

    def __init__(self, pods, namespaces, policies):
        self.pods = [pod for pod in pods if has_address(pod)]
        self.namespaces = {each["metadata"]["name"]: labels(each) for each in namespaces}
        self.policies = policies

    def peers(self, peers, policy, side):
        """The matches of a rule's from or to: [""] for anybody."""
        if not peers:
            return [""]
        found = []
        for peer in peers:
            if "ipBlock" in peer:
                block, without = peer["ipBlock"]["cidr"], peer["ipBlock"].get("except") or []
                found.append(f"ip {side} {block}" + (f" ip {side} != {{ {', '.join(without)} }}" if without else ""))
                continue
            addresses = [address(pod) for pod in self.pods if self.is_peer(pod, peer, policy)]
            if addresses:
                found.append(f"ip {side} {{ {', '.join(addresses)} }}")
        return found

    def is_peer(self, pod, peer, policy):
        where = peer.get("namespaceSelector")
        here = namespace(pod) == namespace(policy) if where is None else selects(where, self.namespaces.get(namespace(pod), {}))
        return here and selects(peer.get("podSelector") or {}, labels(pod))

    @staticmethod
    def ports(ports, targets):
        """The matches of a rule's ports: [""] for any."""
        if not ports:
            return [""]
        found = []
        for each in ports:
            protocol, port = each.get("protocol", "TCP").lower(), each.get("port")
            if port is None:
                found.append(f"meta l4proto {protocol}")
            elif isinstance(port, int):
                found.append(f"{protocol} dport {port}" + (f"-{each['endPort']}" if each.get("endPort") else ""))
            else:  # a name, which the pods know that the traffic goes to
                named = [p for pod in targets for c in pod["spec"]["containers"] for p in c.get("ports") or [] if p.get("name") == port]
                found += [f"{protocol} dport {number}" for number in sorted({p["containerPort"] for p in named})]
        return found

    def chain(self, pod, way, policies):
        key, side = ("to", "daddr") if way == "Egress" else ("from", "saddr")
        rules = [
            f"{peer} {port} return".strip()
            for policy in policies
            for rule in policy["spec"].get(way.lower()) or []
            for peer in self.peers(rule.get(key), policy, side)
            for port in self.ports(rule.get("ports"), [pod] if way == "Ingress" else self.pods)
        ]
        return "".join(f"    {rule}\n" for rule in rules) + "    drop\n"

    def text(self):
        jumps, chains = [], []
        for pod in self.pods:
            mine = [p for p in self.policies if namespace(p) == namespace(pod) and selects(p["spec"].get("podSelector") or {}, labels(pod))]
            for way, own in (("Egress", "saddr"), ("Ingress", "daddr")):
                acting = [p for p in mine if way in (p["spec"].get("policyTypes") or ["Ingress"])]
                if acting:
                    name = f"{way.lower()}_{address(pod).replace('.', '_')}"
                    jumps.append(f"    ip {own} {address(pod)} jump {name}\n")
                    chains.append(f"  chain {name} {{\n{self.chain(pod, way, acting)}  }}\n")
        forward = "    type filter hook forward priority filter; policy accept;\n    ct state established,related accept\n"
        return (
            "table inet netpol\ndelete table inet netpol\ntable inet netpol {\n"
            + "".join(chains) + "  chain forward {\n" + forward + "".join(jumps) + "  }\n}\n"
        )


def main():
    last = None
    while True:
        try:
            now = Rules(get("pods"), get("namespaces"), get("networkpolicies")).text()
            if now != last:
                subprocess.run(["nft", "-f", "-"], input=now.encode(), check=True, timeout=30)
                last = now
        except (subprocess.SubprocessError, json.JSONDecodeError) as problem:
            print("netpol:", problem, flush=True)
        time.sleep(1)


main()
