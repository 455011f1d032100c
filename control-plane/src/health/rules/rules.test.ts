// What each rule finds: long because every rule is looked at in one fleet of facts.
import { Severity } from "@coppice/proto/gen/coppice/control/v1/finding";
import { expect, test } from "vitest";
import type { HealthFacts } from "./facts.ts";
import { findWhatIsWrong } from "./rules.ts";

const now = new Date("2026-11-20T12:00:00Z");
const ago = (minutes: number) => new Date(now.getTime() - minutes * 60_000);
const server = {
  id: "ins_1",
  hostName: "db7",
  isMain: true,
  isPrimary: true,
  seenTime: null,
  unreachableSince: null,
  problem: "",
};
const healthy: HealthFacts = {
  hosts: [
    { id: "hst_1", name: "db7", state: "CONNECTED", stateTime: ago(60), clusters: 1 },
    { id: "hst_2", name: "db8", state: "PENDING", stateTime: ago(60), clusters: 0 },
  ],
  clusters: [{ id: "cls_1", name: "shop", createTime: ago(60), hasGoodBackup: true, servers: [server] }],
  damagedCopies: [],
  repositories: [{ id: "rep_1", name: "main", unreachableSince: null, problem: "" }],
  walArchives: [
    {
      id: "cls_1",
      name: "shop",
      reportTime: ago(0),
      trouble: null,
      slotStatus: "reserved",
      awaited: null,
      present: null,
      behind: null,
      gap: null,
    },
    {
      id: "cls_2",
      name: "new",
      reportTime: null,
      trouble: null,
      slotStatus: "",
      awaited: null,
      present: null,
      behind: null,
      gap: null,
    },
  ],
  unledArchives: [],
  lostWal: [],
  strayArchives: [],
  leftovers: [],
  heldDatabases: [],
  stalledOperations: [],
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

test("how long an agent is away is said in one unit", () => {
  const host = { id: "hst_1", name: "db7", state: "UNKNOWN", clusters: 1 } as const;
  const said = (minutes: number) =>
    findWhatIsWrong({ ...healthy, hosts: [{ ...host, stateTime: ago(minutes) }] }, now)[0]?.message;
  expect(said(0.31)).toBe("the agent of db7 was lost 18 s ago; nobody knows how the host is");
  expect(said(3.5)).toContain("was lost 3 min ago;");
  expect(said(3000)).toContain("was lost 2 d ago;");
  expect(said(0)).toContain("was lost 0 s ago;");
});

test("a host without an agent is found when clusters depend on it", () => {
  const host = { id: "hst_1", name: "db7", state: "PENDING", stateTime: ago(5) } as const;
  expect(found({ hosts: [{ ...host, clusters: 1 }] })).toEqual(["agent-lost db7 WARNING"]);
  expect(found({ hosts: [{ ...host, clusters: 0 }] })).toEqual([]);
});

test("a cluster without a good backup is found, and is urgent after a day", () => {
  const cluster = { id: "cls_1", name: "shop", hasGoodBackup: false, servers: [server] };
  expect(found({ clusters: [{ ...cluster, createTime: ago(5) }] })).toEqual(["no-good-backup shop WARNING"]);
  expect(found({ clusters: [{ ...cluster, createTime: ago(1500) }] })).toEqual(["no-good-backup shop CRITICAL"]);
});

test("a cluster that is known from its backups only is found, with the command that names its server", () => {
  const clusters = healthy.clusters.map((one) => ({ ...one, servers: [] }));
  expect(findWhatIsWrong({ ...healthy, clusters }, now)).toMatchObject([
    {
      rule: "no-server",
      subject: "cls_1",
      severity: Severity.WARNING,
      message: "cluster shop is known from its backups only, without a server: nobody backs it up",
      fix: "coppice cluster add shop --host HOST",
    },
  ]);
});

test("a standby that cannot be reached is less urgent than a primary, and is named", () => {
  const standby = { ...server, id: "ins_2", hostName: "db9", isMain: false, isPrimary: false };
  const clusters = healthy.clusters.map((one) => ({
    ...one,
    servers: [server, { ...standby, unreachableSince: ago(9), problem: "connection refused" }],
  }));
  expect(found({ clusters })).toEqual(["instance-unreachable shop WARNING"]);
  expect(findWhatIsWrong({ ...healthy, clusters }, now)[0]).toMatchObject({
    subject: "ins_2",
    message: "the server of cluster shop by the agent of db9 cannot be reached: connection refused",
    fix: "coppice cluster check shop --instance ins_2",
  });
});

test("two servers of a cluster that accept writes are found while both are reached", () => {
  const other = { ...server, id: "ins_2", hostName: "db9", isMain: false };
  const fleet = (second: typeof other) => healthy.clusters.map((one) => ({ ...one, servers: [server, second] }));
  const findings = findWhatIsWrong({ ...healthy, clusters: fleet(other) }, now);
  expect(findings.map(({ rule, message }) => [rule, message])).toEqual([
    [
      "two-primaries",
      "several servers of cluster shop accept writes, by the agents of db7 and db9: backups are taken of that of db7",
    ],
  ]);
  expect(found({ clusters: fleet({ ...other, isPrimary: false }) })).toEqual([]);
});

test("what could not be reached says why and gives the command that looks again", () => {
  const [cluster] = healthy.clusters;
  const findings = findWhatIsWrong(
    {
      hosts: [],
      clusters: cluster
        ? [{ ...cluster, servers: [{ ...server, unreachableSince: ago(9), problem: "connection refused" }] }]
        : [],
      damagedCopies: [],
      repositories: [{ id: "rep_1", name: "main", unreachableSince: ago(3), problem: "the folder is gone" }],
      walArchives: [],
      unledArchives: [],
      lostWal: [],
      strayArchives: [],
      leftovers: [],
      heldDatabases: [],
      stalledOperations: [],
    },
    now,
  );
  expect(findings.map(({ message, fix, since }) => [message, fix, since])).toEqual([
    ["cluster shop cannot be reached: connection refused", "coppice cluster check shop", ago(9)],
    ["repository main cannot be used: the folder is gone", "coppice repo check main", ago(3)],
  ]);
});

test("a damaged backup is found, one finding a cluster, with what is wrong and where", () => {
  const copy = { clusterId: "cls_1", clusterName: "shop", repositoryName: "main", problem: "an object is gone" };
  const damagedCopies = [
    { ...copy, backupId: "bkp_2", goodTime: ago(4) },
    { ...copy, backupId: "bkp_1", goodTime: ago(9), problem: "" },
    { ...copy, backupId: "bkp_0", goodTime: ago(3), clusterId: "cls_2", clusterName: "crm", problem: "" },
  ];
  expect(findWhatIsWrong({ ...healthy, damagedCopies }, now)).toMatchObject([
    {
      rule: "backup-damaged",
      subject: "cls_1",
      severity: Severity.CRITICAL,
      since: ago(9),
      message:
        "backup bkp_2 of cluster shop is damaged in repository main: an object is gone (and 1 more, see `coppice backup list --cluster shop`)",
      fix: "coppice backup create shop    # then: coppice backup delete bkp_2",
    },
    { subject: "cls_2", since: ago(3), message: "backup bkp_0 of cluster crm is damaged in repository main" },
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

test("WAL that is not archived, may be lost or is lost is found, from when it was first told", () => {
  const archive = {
    id: "cls_1",
    name: "shop",
    reportTime: ago(0),
    trouble: null,
    slotStatus: "reserved",
    awaited: null,
    present: null,
    behind: null,
    gap: null,
  };
  const trouble = { message: "no room", since: ago(7) };
  const gap = { startLsn: 0x2000000n, endLsn: 0x5000000n, since: ago(9) };
  const walArchives = [{ ...archive, trouble, gap, slotStatus: "extended" }];
  expect(findWhatIsWrong({ ...healthy, walArchives }, now)).toMatchObject([
    {
      rule: "wal-gap",
      since: ago(9),
      message: expect.stringContaining("from 0/2000000 to 0/5000000 is not archived") as string,
      fix: "coppice backup create shop --kind full",
    },
    { rule: "wal-not-archived", since: ago(7), message: "WAL of cluster shop is not archived: no room" },
    { rule: "wal-slot-at-risk", severity: Severity.WARNING },
  ]);
  expect(found({ walArchives: [{ ...archive, slotStatus: "lost" }] })).toEqual(["wal-slot-at-risk shop CRITICAL"]);
});

test("archived WAL that no backup leads into is found at once, and after a day where none was ever taken", () => {
  const unled = { clusterId: "cls_1", clusterName: "shop", repositoryName: "offsite" };
  expect(found({ unledArchives: [{ ...unled, isBackedUp: true, since: now }] })).toEqual([
    "wal-without-backup shop CRITICAL",
  ]);
  expect(found({ unledArchives: [{ ...unled, isBackedUp: false, since: ago(60) }] })).toEqual([]);
  expect(found({ unledArchives: [{ ...unled, isBackedUp: false, since: ago(25 * 60) }] })).toEqual([
    "wal-without-backup shop WARNING",
  ]);
});

test("an owner of WAL that has to acknowledge is found when it is away, or takes long", () => {
  const archive = {
    id: "cls_1",
    name: "shop",
    reportTime: null,
    trouble: null,
    slotStatus: "",
    present: null,
    behind: null,
    gap: null,
  };
  const foundFor = (isConnected: boolean, minutes: number) =>
    findWhatIsWrong(
      { ...healthy, walArchives: [{ ...archive, awaited: { hostName: "db7", isConnected, since: ago(minutes) } }] },
      now,
    );
  expect(foundFor(true, 0.5)).toEqual([]);
  expect(foundFor(true, 2)).toMatchObject([{ rule: "wal-owner-awaited", severity: Severity.CRITICAL }]);
  expect(foundFor(false, 0)).toMatchObject([
    {
      rule: "wal-owner-awaited",
      subjectName: "shop",
      since: now,
      fix: expect.stringContaining("coppice wal setup shop --owner-dead db7") as string,
    },
  ]);
});

test("WAL that is damaged in the archive is found, one finding a cluster, with where and since when", () => {
  const run = { clusterId: "cls_1", clusterName: "shop", repositoryName: "main", startLsn: 0x4000000n };
  const lostWal = [
    { ...run, endLsn: 0x5000000n, foundTime: ago(4) },
    { ...run, endLsn: 0x5000000n, foundTime: ago(9) },
  ];
  expect(findWhatIsWrong({ ...healthy, lostWal }, now)).toMatchObject([
    {
      rule: "wal-damaged",
      subjectName: "shop",
      severity: Severity.WARNING,
      since: ago(9),
      message: expect.stringContaining(
        "from 0/4000000 to 0/5000000 is damaged or gone in repository main (and 1 more",
      ) as string,
    },
  ]);
});

test("WAL that an agent archives unasked is found, with what goes on with it or ends it", () => {
  const stray = { clusterId: "cls_9", clusterName: "crm", hostName: "db7", since: ago(1), known: "no" } as const;
  expect(findWhatIsWrong({ ...healthy, strayArchives: [stray] }, now)).toMatchObject([
    {
      rule: "wal-stray",
      subjectName: "crm",
      severity: Severity.WARNING,
      message: expect.stringContaining("the agent of db7 archives WAL of cluster crm") as string,
      fix: expect.stringContaining("coppice wal setup cls_9 --disable") as string,
    },
  ]);
  const [known] = findWhatIsWrong({ ...healthy, strayArchives: [{ ...stray, known: "cluster" }] }, now);
  expect(known?.fix).toBe("coppice wal setup crm");
});

test("a restored database that waits is found with both commands that end it", () => {
  const held = {
    operationId: "op_1",
    clusterId: "cls_1",
    clusterName: "shop",
    name: "coppice_restore_1",
    target: "orders",
  };
  const [finding] = findWhatIsWrong({ ...healthy, heldDatabases: [{ ...held, since: ago(2000) }] }, now);
  expect(finding).toMatchObject({ rule: "restore-undecided", subject: "cls_1", severity: Severity.NOTICE });
  expect(finding?.message).toContain("the restored database coppice_restore_1 waits beside orders");
  expect(finding?.fix).toContain("coppice restore swap op_1 ");
  expect(finding?.fix).toContain("coppice restore drop op_1");
});

test("work that does not move is found, later where nothing can be counted, and not where it says what it waits for", () => {
  const stalled = {
    operationId: "op_1",
    kind: "create_physical_backup",
    isCancelled: false,
    clusterName: "shop",
    hostName: "db7",
    phase: "preflight",
    item: "",
    since: ago(31),
  };
  const findings = (over: object) => findWhatIsWrong({ ...healthy, stalledOperations: [{ ...stalled, ...over }] }, now);
  expect(findings({})).toMatchObject([
    {
      rule: "operation-stalled",
      subject: "op_1",
      subjectName: "shop",
      severity: Severity.WARNING,
      since: ago(31),
      message:
        "operation op_1 (create physical backup of cluster shop) on db7 has not moved for 31 min: it is at preflight",
      fix: "coppice operation cancel op_1    # first look at the server of shop and at the agent of db7, journalctl -u coppice-agent",
    },
  ]);
  expect(findings({ since: ago(29) })).toEqual([]);
  expect(findings({ phase: "waiting for WAL", item: "0/5000000" })).toEqual([]);
  expect(findings({ phase: "waiting for WAL", item: "0/5000000", isCancelled: true })).toHaveLength(1);
  expect(findings({ phase: "waiting for WAL" })).toHaveLength(1);
  expect(findings({ phase: "waiting for checkpoint", item: "since 12:00", since: ago(800) })).toEqual([]);
  expect(findings({ phase: "recovering" })).toEqual([]);
  expect(findings({ phase: "recovering", item: "00000001000000000000000A" })).toHaveLength(1);
  expect(findings({ phase: "restoring", item: "orders" })).toEqual([]);
  expect(findings({ phase: "restoring", item: "orders", since: ago(361) })).toHaveLength(1);
  expect(findings({ kind: "delete_backup", phase: "" })).toEqual([]);
  const [unnamed] = findings({ kind: "check_repository", phase: "", clusterName: null, isCancelled: true });
  expect(unnamed?.message).toBe(
    "operation op_1 (check repository) on db7 was cancelled and has not ended for 31 min: it has told nothing yet",
  );
  expect(unnamed?.fix).toMatch(/^systemctl restart coppice-agent    # on db7; first look at the agent of db7/);
});

test("what keeps WAL on a server for an archive that has ended is found, with the statements that take it away", () => {
  const left = { clusterId: "cls_9", clusterName: "crm", hostName: "db7", slot: "mine", since: ago(1) } as const;
  const about = { ...left, isCommanded: false, problem: "connection refused", present: "none" as const };
  const fixes = (over: object) =>
    findWhatIsWrong({ ...healthy, leftovers: [{ ...about, ...over }] }, now).map(({ fix, message }) => [message, fix]);
  expect(fixes({})).toEqual([
    [
      expect.stringMatching(/^the slot mine may keep all WAL of cluster crm on its server,.* connection refused$/),
      "on the server: SELECT pg_drop_replication_slot('mine');    # where the server is gone: coppice wal setup cls_9 --disable",
    ],
  ]);
  const drop = "on the server: SELECT pg_drop_replication_slot('mine');";
  expect(fixes({ present: "other server" })[0]?.[1]).toBe(drop);
  expect(fixes({ present: "same server" })[0]?.[1]).toBe(
    `coppice wal setup cls_9 --mode stream --slot mine    # stores what it keeps; where that is not needed, ${drop}`,
  );
  expect(fixes({ isCommanded: true })[0]?.[1]).toContain(
    "where its archive_command names coppice-wal: ALTER SYSTEM RESET archive_command",
  );
});

test("an archive that says nothing, or falls behind though it is in no trouble, is found", () => {
  const archive = {
    id: "cls_1",
    name: "shop",
    reportTime: null,
    trouble: null,
    slotStatus: "",
    awaited: null,
    gap: null,
  };
  const rules = (over: object) => found({ walArchives: [{ ...archive, present: null, behind: null, ...over }] });
  const present = { hostName: "db7", since: ago(3) };
  expect(rules({ present })).toEqual(["wal-silent shop CRITICAL"]);
  expect(rules({ present, reportTime: ago(9) })).toEqual(["wal-silent shop CRITICAL"]);
  expect(rules({ present, reportTime: ago(1) })).toEqual([]);
  expect(rules({ present: { ...present, since: ago(1) }, reportTime: ago(9) })).toEqual([]);
  const behind = { bytes: 84n << 20n, ageMs: 400_000, maxAgeMs: 0, since: ago(7), isMoving: false };
  expect(rules({ behind })).toEqual(["wal-behind shop CRITICAL"]);
  expect(rules({ behind: { ...behind, isMoving: true } })).toEqual(["wal-behind shop WARNING"]);
  expect(rules({ behind: { ...behind, ageMs: 200_000 } })).toEqual([]);
  expect(rules({ behind: { ...behind, maxAgeMs: 60_000 } })).toEqual([]);
});
