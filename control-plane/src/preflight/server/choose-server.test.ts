import { InstanceChoice } from "@coppice/proto/gen/coppice/control/v1/backup";
import { expect, test } from "vitest";
import type { ClusterInstanceRow, ClusterRecord } from "../../catalog/cluster.ts";
import { chooseServers } from "./choose-server.ts";

const { UNSPECIFIED, PRIMARY, STANDBY, PREFER_STANDBY } = InstanceChoice;
type Role = ClusterInstanceRow["role"];

/** Servers in order of their ids, each by the agent of the host of its number; `?` marks one that was not reached. */
function cluster(...servers: readonly (Role | `${Role}?`)[]): ClusterRecord {
  const time = new Date(0);
  return {
    row: { id: "cls_1", name: "shop", labels: {}, version: 1, createTime: time, updateTime: time },
    instances: servers.map((server, index) => ({
      id: `ins_${index + 1}`,
      clusterId: "cls_1",
      hostId: `hst_${index + 1}`,
      endpoint: {},
      role: server.replace("?", "") as Role,
      dataDirectory: "",
      passwordSecretId: null,
      reachable: !server.endsWith("?"),
      reachableTime: time,
      unreachableSince: server.endsWith("?") ? time : null,
      problem: "",
    })),
    archivingHostId: undefined,
    awayHostIds: new Set(),
    incarnations: [],
    databases: [],
  };
}

/** Ids of what is chosen, and what each has to be; all hosts are connected but those that are named. */
const choose = (record: ClusterRecord, choice: InstanceChoice, away: readonly string[] = []) =>
  chooseServers(record, choice, (hostId) => !away.includes(hostId)).map(({ instance, standby }) =>
    standby === undefined ? instance.id : `${instance.id} ${standby ? "standby" : "primary"}`,
  );

test("without a choice it is the primary, else the first that may be it", () => {
  expect(choose(cluster("STANDBY", "PRIMARY"), UNSPECIFIED)).toEqual(["ins_2"]);
  expect(choose(cluster("UNSPECIFIED", "STANDBY"), UNSPECIFIED)).toEqual(["ins_1"]);
  expect(choose(cluster("STANDBY", "UNSPECIFIED"), UNSPECIFIED)).toEqual(["ins_2"]);
  expect(choose(cluster("STANDBY", "STANDBY"), UNSPECIFIED)).toEqual(["ins_1"]);
  // Of two that say so the first, as long as it is reached.
  expect(choose(cluster("PRIMARY", "PRIMARY"), UNSPECIFIED)).toEqual(["ins_1"]);
  expect(choose(cluster("PRIMARY?", "PRIMARY"), UNSPECIFIED)).toEqual(["ins_2"]);
  expect(choose({ ...cluster("PRIMARY", "PRIMARY"), awayHostIds: new Set(["hst_1"]) }, UNSPECIFIED)).toEqual(["ins_2"]);
  // An old primary that came back is not the one whose WAL is archived.
  expect(choose({ ...cluster("PRIMARY", "PRIMARY"), archivingHostId: "hst_2" }, UNSPECIFIED)).toEqual(["ins_2"]);
  expect(choose({ ...cluster("PRIMARY", "PRIMARY?"), archivingHostId: "hst_2" }, UNSPECIFIED)).toEqual(["ins_1"]);
  expect(choose({ ...cluster("PRIMARY", "STANDBY"), archivingHostId: "hst_2" }, UNSPECIFIED)).toEqual(["ins_1"]);
});

test("what has to be a primary or a standby is that, or nothing is known of it", () => {
  expect(choose(cluster("STANDBY", "PRIMARY"), PRIMARY)).toEqual(["ins_2 primary"]);
  expect(choose(cluster("PRIMARY?", "PRIMARY"), PRIMARY)).toEqual(["ins_2 primary"]);
  expect(choose(cluster("STANDBY", "UNSPECIFIED"), PRIMARY)).toEqual(["ins_2 primary"]);
  expect(choose(cluster("PRIMARY", "STANDBY", "STANDBY"), STANDBY)).toEqual(["ins_2 standby"]);
  expect(choose(cluster("PRIMARY", "STANDBY?", "STANDBY"), STANDBY)).toEqual(["ins_3 standby"]);
  expect(choose(cluster("PRIMARY", "STANDBY", "STANDBY"), STANDBY, ["hst_2"])).toEqual(["ins_3 standby"]);
  expect(choose(cluster("PRIMARY", "STANDBY?"), STANDBY)).toEqual(["ins_2 standby"]);
  expect(() => choose(cluster("STANDBY", "STANDBY"), PRIMARY)).toThrow("no server of cluster shop is known to be its");
  expect(() => choose(cluster("PRIMARY"), STANDBY)).toThrow("no server of cluster shop is known to be a standby");
});

test("a standby is preferred while it lives, and the primary does where none can", () => {
  expect(choose(cluster("PRIMARY", "STANDBY", "STANDBY"), PREFER_STANDBY)).toEqual([
    "ins_2 standby",
    "ins_3 standby",
    "ins_1",
  ]);
  expect(choose(cluster("PRIMARY", "STANDBY?"), PREFER_STANDBY)).toEqual(["ins_1"]);
  expect(choose(cluster("PRIMARY", "STANDBY"), PREFER_STANDBY, ["hst_2"])).toEqual(["ins_1"]);
  expect(choose(cluster("PRIMARY", "UNSPECIFIED"), PREFER_STANDBY)).toEqual(["ins_1"]);
  expect(choose(cluster("STANDBY", "STANDBY?"), PREFER_STANDBY)).toEqual(["ins_1"]);
});

test("a cluster that is known from its backups alone has no server", () => {
  expect(() => choose(cluster(), PREFER_STANDBY)).toThrow("is known from its backups only");
});
