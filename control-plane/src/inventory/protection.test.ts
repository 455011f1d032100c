import { expect, test } from "vitest";
import type { ClusterInstanceRow } from "../catalog/cluster.ts";
import type { FoundClusterRow } from "../catalog/host.ts";
import { endpointOf, findProtection } from "./protection.ts";

const found: FoundClusterRow = {
  hostId: "hst_7",
  dataDirectory: "/var/lib/postgresql/15/main",
  port: 5432,
  socketDirectory: "/run/postgresql",
  major: 15,
  owner: "postgres",
  running: true,
  runningUnknown: "",
  systemIdentifier: "",
  debianName: "15/main",
};

type Place = Pick<ClusterInstanceRow, "id" | "clusterId" | "hostId" | "endpoint" | "dataDirectory">;

function instance(change: Partial<Place>): Place {
  return {
    id: "ins_1",
    clusterId: "cls_1",
    hostId: "hst_7",
    endpoint: { socketDirectory: "/run/postgresql" },
    dataDirectory: "",
    ...change,
  };
}

test.each([
  ["by its socket, the port left out", instance({}), true],
  ["by loopback", instance({ endpoint: { host: "localhost", port: 5432 } }), true],
  [
    "by its data directory, whatever the endpoint",
    instance({ dataDirectory: found.dataDirectory, endpoint: {} }),
    true,
  ],
  ["not by another port", instance({ endpoint: { socketDirectory: "/run/postgresql", port: 5433 } }), false],
  ["not by another socket", instance({ endpoint: { socketDirectory: "/tmp" } }), false],
  ["not by a remote address", instance({ endpoint: { host: "10.0.0.9" } }), false],
  ["not by another data directory on the same socket", instance({ dataDirectory: "/srv/other" }), false],
  ["not from another host", instance({ hostId: "hst_8" }), false],
])("a found cluster is known to be protected: %s", (_how, one, isProtected) => {
  expect(findProtection(found, [one]) !== undefined).toBe(isProtected);
});

test("a found cluster is protected by its socket, and by loopback when it has none", () => {
  expect(endpointOf(found)).toMatchObject({
    address: { case: "socketDirectory", value: "/run/postgresql" },
    port: 5432,
  });
  expect(endpointOf({ ...found, socketDirectory: "" })).toMatchObject({
    address: { case: "host", value: "127.0.0.1" },
  });
});
