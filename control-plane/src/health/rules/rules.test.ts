import { Severity } from "@coppice/proto/gen/coppice/control/v1/finding";
import { expect, test } from "vitest";
import type { HealthFacts } from "./facts.ts";
import { findWhatIsWrong } from "./rules.ts";

const now = new Date("2026-11-20T12:00:00Z");
const ago = (minutes: number) => new Date(now.getTime() - minutes * 60_000);
const healthy: HealthFacts = {
  hosts: [
    { id: "hst_1", name: "db7", state: "CONNECTED", stateTime: ago(60), clusters: 1 },
    { id: "hst_2", name: "db8", state: "PENDING", stateTime: ago(60), clusters: 0 },
  ],
  clusters: [
    { id: "cls_1", name: "shop", createTime: ago(60), hasGoodBackup: true, unreachableSince: null, problem: "" },
  ],
  repositories: [{ id: "rep_1", name: "main", unreachableSince: null, problem: "" }],
};

function found(facts: Partial<HealthFacts>) {
  return findWhatIsWrong({ ...healthy, ...facts }, now).map(
    ({ rule, subjectName, severity }) => `${rule} ${subjectName} ${Severity[severity]}`,
  );
}

test("a healthy fleet has no finding", () => {
  expect(found({})).toEqual([]);
});

test("a lost agent is urgent when clusters depend on it and it stays away", () => {
  const host = { id: "hst_1", name: "db7", state: "UNKNOWN", clusters: 1 } as const;
  expect(found({ hosts: [{ ...host, stateTime: ago(0.5) }] })).toEqual(["agent-lost db7 WARNING"]);
  expect(found({ hosts: [{ ...host, stateTime: ago(5) }] })).toEqual(["agent-lost db7 CRITICAL"]);
  expect(found({ hosts: [{ ...host, stateTime: ago(5), clusters: 0 }] })).toEqual(["agent-lost db7 NOTICE"]);
  expect(found({ hosts: [{ ...host, state: "STOPPED", stateTime: ago(5) }] })).toEqual(["agent-lost db7 WARNING"]);
});

test("a host without an agent is found when clusters depend on it", () => {
  const host = { id: "hst_1", name: "db7", state: "PENDING", stateTime: ago(5) } as const;
  expect(found({ hosts: [{ ...host, clusters: 1 }] })).toEqual(["agent-lost db7 WARNING"]);
  expect(found({ hosts: [{ ...host, clusters: 0 }] })).toEqual([]);
});

test("a cluster without a good backup is found, and is urgent after a day", () => {
  const cluster = { id: "cls_1", name: "shop", hasGoodBackup: false, unreachableSince: null, problem: "" };
  expect(found({ clusters: [{ ...cluster, createTime: ago(5) }] })).toEqual(["no-good-backup shop WARNING"]);
  expect(found({ clusters: [{ ...cluster, createTime: ago(1500) }] })).toEqual(["no-good-backup shop CRITICAL"]);
});

test("what could not be reached says why and gives the command that looks again", () => {
  const [cluster] = healthy.clusters;
  const findings = findWhatIsWrong(
    {
      hosts: [],
      clusters: cluster ? [{ ...cluster, unreachableSince: ago(9), problem: "connection refused" }] : [],
      repositories: [{ id: "rep_1", name: "main", unreachableSince: ago(3), problem: "the folder is gone" }],
    },
    now,
  );
  expect(findings.map(({ message, fix, since }) => [message, fix, since])).toEqual([
    ["cluster shop cannot be reached: connection refused", "coppice cluster check shop", ago(9)],
    ["repository main cannot be used: the folder is gone", "coppice repo check main", ago(3)],
  ]);
});

test("the worst comes first, then the oldest", () => {
  const hosts = [
    { id: "hst_1", name: "db7", state: "UNKNOWN", stateTime: ago(5), clusters: 0 },
    { id: "hst_2", name: "db8", state: "UNKNOWN", stateTime: ago(9), clusters: 2 },
    { id: "hst_3", name: "db9", state: "UNKNOWN", stateTime: ago(30), clusters: 1 },
  ] as const;
  expect(found({ hosts })).toEqual(["agent-lost db9 CRITICAL", "agent-lost db8 CRITICAL", "agent-lost db7 NOTICE"]);
});
