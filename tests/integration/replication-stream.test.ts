// START_REPLICATION as one command of the protocol, with the slots it uses, and each way in which it is refused or ends.
import { readFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openReplication, type ReplicationConnection } from "../../agent/src/postgres/replication/open-replication.ts";
import type { WalStreamOptions } from "../../agent/src/postgres/replication/wal-stream.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { replicationEndpoint } from "../support/replication/replication-endpoint.ts";
import { runProgram } from "../support/run-program.ts";

const signal = AbortSignal.timeout(180_000);
const segmentBytes = 16 * 1024 * 1024;
const segmentStart = (lsn: bigint) => lsn - (lsn % BigInt(segmentBytes));

/** What a stream brought, from its start on without a gap. */
function gather(startLsn: bigint, extra: Partial<WalStreamOptions> = {}) {
  const pieces: Buffer[] = [];
  let end = startLsn;
  const options: WalStreamOptions = {
    startLsn,
    timeline: 1,
    signal,
    onData: (lsn, bytes) => {
      expect(lsn).toBe(end);
      end += BigInt(bytes.length);
      pieces.push(bytes);
    },
    ...extra,
  };
  return { options, end: () => end, bytes: () => Buffer.concat(pieces) };
}

const switchWal = async (server: PostgresServer) =>
  parseLsn(
    await server.sql(
      "postgres",
      "create table if not exists t (id int); insert into t select generate_series(1, 20000); select pg_switch_wal()",
    ),
  );

describe.each([15, 17, 18])("PostgreSQL %i", (major) => {
  let server: PostgresServer;
  const openIt = (over: Partial<{ signal: AbortSignal }> = {}): Promise<ReplicationConnection> =>
    openReplication(replicationEndpoint(server), { signal, ...over });

  beforeAll(async () => {
    server = await openPostgresServer({
      major,
      settings: {
        max_slot_wal_keep_size: "16MB",
        max_wal_size: "32MB",
        min_wal_size: "32MB",
        max_replication_slots: "3",
      },
    });
  });
  afterAll(async () => server?.[Symbol.asyncDispose]());

  test("slots are made, read and dropped, and each refusal has its reason", async () => {
    await using replication = await openIt();
    expect(await replication.readSlot("one")).toBeUndefined();
    const made = await replication.createSlot("one", { temporary: false, reserveWal: true });
    expect(made).toMatchObject({ restartLsn: expect.any(BigInt) as unknown, restartTimeline: 1 });
    expect(await replication.readSlot("one")).toEqual(made);
    expect(await replication.createSlot("two", { temporary: true, reserveWal: false })).toEqual({
      restartLsn: undefined,
      restartTimeline: undefined,
    });
    const again = replication.createSlot("one", { temporary: false, reserveWal: false });
    await expect(again).rejects.toMatchObject({ reason: "SLOT_EXISTS" });
    // Any error of the server's takes the connection's temporary slots along.
    expect(await replication.readSlot("two")).toBeUndefined();
    for (const name of ["two", "three"]) await replication.createSlot(name, { temporary: true, reserveWal: false });
    const fourth = replication.createSlot("four", { temporary: true, reserveWal: false });
    await expect(fourth).rejects.toMatchObject({
      reason: "SLOTS_EXHAUSTED",
      hint: expect.stringContaining("ALTER SYSTEM SET max_replication_slots") as unknown,
    });
    await expect(replication.createSlot("No!", { temporary: true, reserveWal: false })).rejects.toMatchObject({
      reason: "INVALID_FIELD",
    });
    await replication.dropSlot("one");
    await expect(replication.dropSlot("one")).rejects.toMatchObject({
      reason: "SLOT_MISSING",
      hint: expect.stringContaining("pg_create_physical_replication_slot('one', true)") as unknown,
    });
  });

  test("the stream is byte for byte what lies in pg_wal, and the slot follows what is reported as flushed", async () => {
    await using replication = await openIt();
    const { restartLsn = 0n } = await replication.createSlot("keep", { temporary: false, reserveWal: true });
    const stream = gather(segmentStart(restartLsn), { slot: "keep" });
    const running = await replication.startReplication(stream.options);
    running.ended.catch(() => {});
    const end = await switchWal(server);
    const whole = segmentStart(end) + BigInt(segmentBytes);
    await expect.poll(stream.end, { timeout: 10_000 }).toBeGreaterThanOrEqual(whole);
    const fileName = await server.sql("postgres", `select pg_walfile_name('${formatLsn(whole - 1n)}')`);
    const length = Number(whole - segmentStart(restartLsn));
    const last = stream.bytes().subarray(length - segmentBytes, length);
    expect(last.equals(await readFile(join(server.dataDir, "pg_wal", fileName)))).toBe(true);

    const restart = () =>
      server.sql("postgres", "select restart_lsn from pg_replication_slots where slot_name = 'keep'");
    expect(await restart()).toBe(formatLsn(restartLsn));
    running.reportFlush(whole);
    await expect.poll(restart).toBe(formatLsn(whole));

    await using second = await openIt();
    const inUse = second.startReplication({ ...stream.options, slot: "keep" });
    await expect(inUse).rejects.toMatchObject({
      reason: "SLOT_IN_USE",
      message: expect.stringContaining("PID") as unknown,
    });
    await expect(second.startReplication({ ...stream.options, slot: "nobody" })).rejects.toMatchObject({
      reason: "SLOT_MISSING",
    });
    expect((await second.identify()).timeline).toBe(1);
  });

  test("a consumer that is busy stops the server, which stays connected meanwhile", async () => {
    await server.sql("postgres", "alter system set wal_sender_timeout = '900ms'; select pg_reload_conf()");
    await using replication = await openIt();
    const { lsn } = await replication.identify();
    let calls = 0;
    const released = Promise.withResolvers<void>();
    const stream = gather(segmentStart(lsn));
    const running = await replication.startReplication({
      ...stream.options,
      onData: (at, bytes) => {
        calls += 1;
        const taken = stream.options.onData(at, bytes);
        return calls > 1 ? taken : released.promise;
      },
    });
    running.ended.catch(() => {});
    const whole = segmentStart(await switchWal(server)) + BigInt(segmentBytes);
    await delay(2000);
    expect(calls).toBe(1);
    released.resolve();
    await expect.poll(stream.end).toBeGreaterThanOrEqual(whole);
    await server.sql("postgres", "alter system reset wal_sender_timeout; select pg_reload_conf()");
  });

  test("a stream that is stopped while it is not read brings what was sent, and another one goes on from there", async () => {
    await using replication = await openIt();
    const { lsn } = await replication.identify();
    const slot = "stopped";
    await replication.createSlot(slot, { temporary: true, reserveWal: true });
    const released = Promise.withResolvers<void>();
    const stream = gather(segmentStart(lsn), { slot });
    const { onData } = stream.options;
    const held = {
      ...stream.options,
      onData: (at: bigint, bytes: Buffer) => released.promise.then(() => onData(at, bytes)),
    };
    const running = await replication.startReplication(held);
    const whole = segmentStart(await switchWal(server)) + BigInt(segmentBytes);
    const reason = new Error("no room");
    running.stop(reason);
    released.resolve();
    await expect(running.ended).rejects.toBe(reason);
    expect(stream.end()).toBeLessThan(whole);
    const onward = await replication.startReplication({ ...stream.options, startLsn: stream.end() });
    onward.ended.catch(() => {});
    await expect.poll(stream.end).toBeGreaterThanOrEqual(whole);
  });

  test("WAL that is gone and a slot that was given up are told apart from trouble", async () => {
    await using maker = await openIt();
    const { restartLsn = 0n } = await maker.createSlot("lost", { temporary: false, reserveWal: true });
    for (let count = 0; count < 6; count++) await switchWal(server);
    const status = "checkpoint; select wal_status from pg_replication_slots where slot_name = 'lost'";
    await expect.poll(() => server.sql("postgres", status)).toBe("lost");
    await using replication = await openIt();
    const { options } = gather(segmentStart(restartLsn));
    // The server agrees first and looks for the WAL then.
    const { ended } = await replication.startReplication(options);
    await expect(ended).rejects.toMatchObject({ reason: "WAL_REMOVED" });
    // Up to 17 it finds the slot the same way.
    const lost = replication.startReplication({ ...options, slot: "lost" }).then((stream) => stream.ended);
    await expect(lost).rejects.toMatchObject({
      reason: "SLOT_INVALIDATED",
      hint: expect.stringContaining("the slot lost is made anew by itself") as unknown,
    });
    await replication.dropSlot("lost");
  });

  test("aborting ends the stream at once and the server's process within two seconds", async () => {
    const controller = new AbortController();
    await using replication = await openIt();
    const { lsn } = await replication.identify();
    const running = await replication.startReplication({
      ...gather(segmentStart(lsn)).options,
      signal: controller.signal,
    });
    const reason = new Error("enough");
    controller.abort(reason);
    await expect(running.ended).rejects.toBe(reason);
    const senders = "select count(*) from pg_stat_activity where backend_type = 'walsender'";
    await expect.poll(() => server.sql("postgres", senders)).toBe("0");
  });

  test("a server that shuts down asks what is flushed, and ends when it is told", async () => {
    await using replication = await openIt();
    const { lsn } = await replication.identify();
    await replication.createSlot("ending", { temporary: true, reserveWal: true });
    const stream = gather(segmentStart(lsn), {
      slot: "ending",
      onKeepalive: ({ isReplyWanted }) => isReplyWanted && running?.reportFlush(stream.end()),
    });
    const running = await replication.startReplication(stream.options);
    running.reportFlush(1n);
    await server.stop();
    await expect(running.ended).rejects.toMatchObject({ reason: "CLUSTER_UNREACHABLE" });
    await server.start();
  });
});

test.each([15, 18])(
  "at a promotion the stream of PostgreSQL %i ends with the next timeline, which goes on from there",
  async (major) => {
    await using server = await openPostgresServer({ major, settings: { wal_keep_size: "64MB" } });
    await using first = await openReplication(replicationEndpoint(server), { signal });
    const { lsn } = await first.identify();
    await switchWal(server);
    // A restart in standby mode with nothing to follow, then a promotion: timeline 2 begins where 1 ended.
    await server.stop();
    const signalFile = join(server.dataDir, "standby.signal");
    const made = await runProgram("sh", ["-c", `touch '${signalFile}' && chown ${server.owner.uid} '${signalFile}'`], {
      env: { PATH: "/usr/bin:/bin" },
    });
    expect(made.code).toBe(0);
    await server.start();
    await using standby = await openReplication(replicationEndpoint(server), { signal });
    const stream = gather(segmentStart(lsn));
    const running = await standby.startReplication(stream.options);
    await server.sql("postgres", "select pg_promote()");
    const next = await running.ended;
    expect(next).toEqual({ nextTimeline: 2, nextLsn: stream.end() });
    const history = await standby.timelineHistory(2);
    expect(history.fileName).toBe("00000002.history");
    expect(history.content.toString()).toContain(`1\t${formatLsn(next.nextLsn)}\t`);
    const onward = gather(next.nextLsn, { timeline: 2 });
    const second = await standby.startReplication(onward.options);
    second.ended.catch(() => {});
    const whole = segmentStart(await switchWal(server)) + BigInt(segmentBytes);
    await expect.poll(onward.end).toBeGreaterThanOrEqual(whole);
    // Asked again for what is over, the server says so without sending anything.
    await using late = await openReplication(replicationEndpoint(server), { signal });
    const over = await late.startReplication(gather(next.nextLsn).options);
    expect(await over.ended).toEqual(next);
  },
);

test("a server that hangs is noticed by its silence", async () => {
  await using server = await openPostgresServer({ major: 18 });
  let isHung = false;
  const proxy = createServer((incoming) => {
    const outgoing = connect(server.port, "127.0.0.1");
    incoming.on("data", (chunk) => outgoing.write(chunk)).on("error", () => outgoing.destroy());
    outgoing.on("data", (chunk) => isHung || incoming.write(chunk)).on("error", () => incoming.destroy());
    incoming.on("close", () => outgoing.destroy());
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  const address = proxy.address();
  const port = typeof address === "object" && address ? address.port : 0;
  await using replication = await openReplication(replicationEndpoint(server, { port }), { signal });
  const { lsn } = await replication.identify();
  const running = await replication.startReplication({
    ...gather(segmentStart(lsn)).options,
    statusIntervalMs: 50,
    silenceMs: 400,
  });
  // An idle server answers each report, so silence shorter than this is none.
  await expect(Promise.race([running.ended, delay(1000, "still there")])).resolves.toBe("still there");
  isHung = true;
  await expect(running.ended).rejects.toMatchObject({
    reason: "CLUSTER_UNREACHABLE",
    message: expect.stringContaining("silent") as unknown,
  });
  proxy.close();
});

describe.each([15, 18])("a login at PostgreSQL %i", (major) => {
  let server: PostgresServer;
  beforeAll(async () => {
    server = await openPostgresServer({
      major,
      settings: { max_wal_senders: "6" },
      hba: [
        "host replication plain,full 127.0.0.1/32 scram-sha-256",
        "local replication nobody reject",
        "host all all 127.0.0.1/32 scram-sha-256",
      ],
    });
    await server.sql(
      "postgres",
      "create role plain login password 'x'; create role full login replication password 'x'; create role \"Other\" login replication password 'x'",
    );
  });
  afterAll(async () => server?.[Symbol.asyncDispose]());
  const open = (user: string, password: string | undefined = "x") =>
    openReplication(replicationEndpoint(server, { user, sslMode: "prefer", passwordFor: () => password }), { signal });

  test("is refused with the line, the statement or the password that is missing", async () => {
    await expect(open("Other")).rejects.toMatchObject({
      reason: "REPLICATION_REFUSED",
      hint: expect.stringContaining('host replication "Other" 127.0.0.1/32 scram-sha-256') as unknown,
    });
    await expect(open("plain")).rejects.toMatchObject({
      reason: "REPLICATION_REFUSED",
      hint: 'run ALTER ROLE "plain" REPLICATION',
    });
    await expect(open("full", "wrong")).rejects.toMatchObject({ reason: "PASSWORD_REFUSED" });
    const withoutPassword = openReplication(
      replicationEndpoint(server, { user: "full", passwordFor: () => undefined }),
      { signal },
    );
    await expect(withoutPassword).rejects.toMatchObject({
      reason: "PASSWORD_MISSING",
      hint: expect.stringContaining("the database replication") as unknown,
    });
  });

  test("is refused where all senders are taken", async () => {
    // Those that were refused just now may still be on their way out.
    const senders = "select count(*) from pg_stat_activity where backend_type = 'walsender'";
    await expect.poll(() => server.sql("postgres", senders)).toBe("0");
    await using taken = new AsyncDisposableStack();
    for (let count = 0; count < 6; count++) taken.use(await open("full"));
    await expect(open("full")).rejects.toMatchObject({
      reason: "SENDERS_EXHAUSTED",
      hint: expect.stringContaining("max_wal_senders") as unknown,
    });
  });
});
