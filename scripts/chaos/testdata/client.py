"""Drives forsun behind a load balancer with Debian's python3-thrift, each call on a
connection of its own. Arguments: generated code, port, plans to list, connections."""
import sys
import time

sys.path.insert(0, sys.argv[1])
from thrift.protocol import TBinaryProtocol
from thrift.transport import TSocket, TTransport
from forsun import Forsun
from forsun.ttypes import ForsunPlanError, ForsunPlanRequest

port, plans, connections = int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])


def call(method, *args):
    transport = TTransport.TBufferedTransport(TSocket.TSocket("127.0.0.1", port))
    transport.open()
    try:
        return getattr(Forsun.Client(TBinaryProtocol.TBinaryProtocol(transport)), method)(*args)
    finally:
        transport.close()


replicas = {call("info")["bind_port"] for _ in range(9)}
assert len(replicas) == 3, replicas

keys = ["py-%05d" % i for i in range(plans)]
for at in range(0, plans, 1000):
    results = call("createMany", [ForsunPlanRequest(key=k, is_time_out=True, second=5000, action="shell", params={"cmd": "true"}) for k in keys[at:at + 1000]])
    assert all(r.code == 0 for r in results), results
for i in range(connections):
    key = "py-one-%d" % i
    now = int(time.time())
    plan = call("createTimeout", key, 3600, 0, 0, 0, 0, -1, 1, "shell", {"cmd": "true", "env": "a=\u952e"})
    assert plan.key == key and plan.is_time_out and now + 3600 <= plan.next_time <= int(time.time()) + 3600, plan
    got = call("get", key)
    assert got == plan, (got, plan)
    assert key in [p.key for p in call("getTime", plan.next_time)]
    daily = call("create", key + "-daily", 0, 30, 16, -1, -1, -1, "shell", {"cmd": "true"})
    assert not daily.is_time_out and daily.next_time % 86400 == 16 * 3600 + 1800, daily
    assert sorted(call("getKeys", key + "-*")) == [key + "-daily"]
    assert all(abs(p.next_time - time.time()) < 5 for p in call("getCurrent"))
    assert call("ping") == 0
    assert call("remove", key) == plan
    for method in "get", "remove":
        try:
            call(method, key)
            raise SystemExit(method + " of what was removed")
        except ForsunPlanError as e:
            assert e.code == 1003, e
    assert call("remove", key + "-daily").key == key + "-daily"
    assert sorted(call("getKeys", "py-0")) == sorted(k for k in keys if k.startswith("py-0"))
assert sorted(call("getKeys", "py-")) == keys
print("%d replicas, %d plans, %d calls" % (len(replicas), plans, 9 + plans // 1000 + 13 * connections + 1))
