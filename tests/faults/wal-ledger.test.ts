import { readFile, rm, stat, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freePort } from "../support/free-port.ts";
import { waitFor } from "../support/installation.ts";
import { dropSlot, passing } from "../support/ledger/disturb.ts";
import { type LedgerLab, openLedgerLab } from "../support/ledger/ledger-lab.ts";
import { lostOrWrittenAnew, pickTargets, proveArchive, proveRefused, type Reached } from "../support/ledger/prove.ts";
import { openRandom } from "../support/ledger/random.ts";
import { listFiles } from "../support/scenarios/files.ts";

// The soak does the same for half an hour, in an order that changes.
const random = openRandom(1);
const reached: Reached[] = [];
let lab: LedgerLab;
let firstUs: number;

interface Active {
  readonly operations?: readonly { readonly progress?: { readonly work?: { readonly phase?: string } } }[];
}

beforeAll(async () => {
  lab = await openLedgerLab({ major: 18, clients: 4, random });
  firstUs = await lab.backup();
});
afterAll(() => lab?.[Symbol.asyncDispose]());

test("whatever dies under load, WAL is archived without a gap, as the server wrote it", async () => {
  for (const disturb of Object.values(passing)) {
    await disturb(lab, random);
    expect(await lostOrWrittenAnew(lab)).toEqual([]);
    await delay(random.number(500));
  }
  const { timeUs } = await lab.caughtUp();
  reached.push({ fromUs: firstUs, toUs: timeUs });
  await proveArchive(lab);
});

test("a slot that is dropped leaves a gap that is declared and refused, and a new full backup leads on behind it", async () => {
  await dropSlot(lab);
  expect(lab.lost).toHaveLength(1);
  const { timeUs } = await lab.caughtUp();
  reached.push({ fromUs: lab.lost[0]?.toUs ?? timeUs, toUs: timeUs });
  await lab.clients.end();
  await proveArchive(lab);
  await proveRefused(lab);
});

test("restored to a time or a position, every transaction before it is there, and none after it", async () => {
  const [first, ...others] = reached;
  if (first === undefined) throw new Error("nothing was archived");
  for (const target of pickTargets(lab, [first, ...others], random, 3))
    expect(await lab.restoreWrong(target), await lab.evidence()).toEqual([]);
});

test("an agent and its receiver that are killed while a backup waits for its WAL: it is taken again, and counts once", async () => {
  const { installation, server } = lab;
  const backups = async () => {
    const listed = await installation.json<{ backups: { id: string }[] }>(["backup", "list"]);
    return listed.backups.map(({ id }) => id);
  };
  const before = await backups();
  // Whoever sends the WAL stands still, so that the backup has to wait for it.
  const sender = await waitFor("WAL is received", async () =>
    server.sql("postgres", "select active_pid from pg_replication_slots where active and not temporary"),
  );
  process.kill(Number(sender), "SIGSTOP");
  const creating = installation.coppice(["backup", "create", "shop", "--kind", "full", "--wal", "archive"]);
  try {
    await waitFor("the backup waits for its WAL", async () => {
      const request = { cluster: "shop", activeOnly: true };
      const { operations = [] } = await installation.call<Active>("OperationService/ListOperations", request);
      return operations.some(({ progress }) => progress?.work?.phase === "waiting for WAL");
    });
    await server.sql("postgres", `select pg_terminate_backend(${sender})`);
    await installation.agent("db7").end("SIGKILL");
  } finally {
    process.kill(Number(sender), "SIGCONT");
  }
  installation.startAgent("db7");
  const { code, stdout, stderr } = await creating;
  expect(code, `${stdout}${stderr}\n${await lab.evidence()}`).toBe(0);
  const [newest, ...older] = await backups();
  expect(older).toEqual(before);
  await installation.must(["backup", "verify", newest ?? ""]);
  await lab.caughtUp();
  await proveArchive(lab);
});

test("a segment that was flipped, cut short or deleted is named by verify, and nothing is called restored by it", async () => {
  const { installation, store } = lab;
  const repository = store.folder;
  const [backup] = (await installation.json<{ backups: { id: string }[] }>(["backup", "list"])).backups;
  const { said } = await lab.plan();
  const [, high = "", low = ""] = /replays WAL from ([0-9A-F]+)\/([0-9A-F]+) to /.exec(said) ?? [];
  const first = `00000001${high.padStart(8, "0")}${low.padStart(8, "0").slice(0, 2).padStart(8, "0")}`;
  const file = (await listFiles(repository)).find((one) => basename(one) === first);
  if (file === undefined || backup === undefined) throw new Error(`${first} is not there`);
  const path = join(repository, file);
  const whole = await readFile(path);
  const flipped = Buffer.from(whole);
  flipped.writeUInt8(flipped.readUInt8(whole.length >> 1) ^ 0x20, whole.length >> 1);
  const directory = join(installation.folder, "restored/never");
  const restore = ["restore", "create", "shop", "--latest", "--to", `db7:${directory}`, "--start", "--port"];
  const port = String(await freePort());
  for (const bytes of [flipped, whole.subarray(0, whole.length >> 1), undefined]) {
    await rm(path);
    if (bytes) await writeFile(path, bytes);
    const verified = await installation.coppice(["backup", "verify", backup.id]);
    expect(verified.code).not.toBe(0);
    expect(verified.stdout + verified.stderr).toContain(first);
    const restored = await installation.coppice([...restore, port]);
    expect(restored.code, restored.stdout).not.toBe(0);
    expect(restored.stdout).not.toContain("is restored");
    expect(restored.stderr).not.toContain("INTERNAL");
    await expect(stat(directory)).rejects.toMatchObject({ code: "ENOENT" });
  }
  await writeFile(path, whole);
  await installation.must(["backup", "verify", backup.id]);
});

test("WAL that was stored and is gone is missed before anything is restored", async () => {
  // It says no more that could take the place of what is removed here.
  await lab.server.stop();
  const planned = await lab.plan();
  expect(planned).toMatchObject({ code: 0 });
  const [, high = "", low = ""] = /replays WAL from \S+ to ([0-9A-F]+)\/([0-9A-F]+)/.exec(planned.said) ?? [];
  const inLast = ((BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`)) - 1n;
  const hex = (part: bigint) => part.toString(16).toUpperCase().padStart(8, "0");
  const last = hex(inLast >> 32n) + hex((inLast & 0xffff_ffffn) >> 24n);
  const wal = (await listFiles(lab.store.folder)).filter((file) => /\/[0-9A-F]{24}[^/]*$/.test(file));
  const gone = wal.filter((file) => basename(file).slice(8, 24) >= last);
  expect(gone).not.toEqual([]);
  for (const file of gone) await rm(join(lab.store.folder, file));
  const { code, said } = await lab.plan();
  expect({ code, said }).toMatchObject({ said: expect.stringContaining("lacks WAL from") as string });
  expect(code).not.toBe(0);
});
