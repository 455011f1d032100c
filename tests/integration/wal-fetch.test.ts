// What a restore_command gets, and with which exit code, for everything that may be wrong.
import { createHash, randomBytes } from "node:crypto";
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { partialName, segmentName } from "@coppice/proto/kit/wal/segment";
import { afterAll, beforeAll, expect, test } from "vitest";
import { lookUpUser } from "../../agent/src/host/os-user.ts";
import { walKey } from "../../agent/src/repository/layout.ts";
import { openFilesystem } from "../../agent/src/storage/filesystem.ts";
import type { Storage } from "../../agent/src/storage/storage.ts";
import { fetchWal } from "../../agent/src/wal/fetch/fetch-wal.ts";
import { openReplay } from "../../agent/src/wal/fetch/open-replay.ts";
import { requireWal } from "../../agent/src/wal/fetch/require-wal.ts";
import { openFetchServer } from "../../agent/src/wal/fetch/serve-fetch.ts";
import { storeWal } from "../../agent/src/wal/store/store-wal.ts";
import { compressWal, readableOf } from "../../agent/src/wal/store/wal-codec.ts";
import { runProgram } from "../support/run-program.ts";

const signal = AbortSignal.timeout(60_000);
const shim = fileURLToPath(new URL("../../deploy/debian/coppice-wal", import.meta.url));
const main = fileURLToPath(new URL("../../agent/src/main.ts", import.meta.url));
const place = { clusterId: "cls_00000000000000000000000001", systemIdentifier: "7312345678901234567" };
const size = 1n << 20n;
const name = (number: bigint) => segmentName(1, number * size, size);

let folder: string;
let repository: string;
let storage: Storage;
const segments = [1n, 2n].map((number) => ({ number, bytes: randomBytes(Number(size)) }));

async function put(file: string, bytes: Buffer, recipients: string[] = []): Promise<void> {
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  await storeWal(storage, {
    place,
    name: file,
    plainBytes: bytes.length,
    compressed: () => compressWal(readableOf(bytes), 1),
    sha256: async () => sha256,
    recipients,
    known: () => undefined,
    signal,
  });
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-fetch-"));
  repository = join(folder, "repository");
  await mkdir(repository);
  await mkdir(join(folder, "ahead"));
  storage = await openFilesystem(repository, "op_test");
  for (const { number, bytes } of segments) await put(name(number), bytes);
});
afterAll(async () => {
  await storage?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

test("the same bytes again are a success, other ones a conflict that overwrites nothing", async () => {
  const [one] = segments;
  await put(name(1n), one?.bytes ?? Buffer.alloc(0));
  await expect(put(name(1n), randomBytes(Number(size)))).rejects.toMatchObject({ reason: "WAL_CONFLICT" });
  const path = join(folder, "again");
  expect(await fetchWal(storage, { place, name: name(1n), signal }, path)).toBe(true);
  expect((await readFile(path)).equals(one?.bytes ?? Buffer.alloc(0))).toBe(true);
});

test("WAL is there when its files are, the last of them as far as it has to reach", async () => {
  const twoTimelines = [
    { timeline: 1, startLsn: 0n, endLsn: 171n * size + 10n },
    { timeline: 2, startLsn: 171n * size + 10n, endLsn: undefined },
  ];
  const wal = { place, segmentBytes: size, path: twoTimelines, signal };
  await put(name(170n), randomBytes(Number(size)));
  await put(partialName(1, 171n * size + 500n, size), randomBytes(Number(size)));
  const require = (fromLsn: bigint, endLsn: bigint) => requireWal(storage, { ...wal, fromLsn, endLsn });
  await require(170n * size + 9n, 171n * size + 500n);
  await expect(require(170n * size, 171n * size + 501n)).rejects.toMatchObject({ reason: "WAL_MISSING" });
  await expect(require(169n * size, 171n * size)).rejects.toMatchObject({ reason: "WAL_MISSING" });
  await expect(require(170n * size, 173n * size)).rejects.toThrow(`lacks WAL from ${formatLsn(171n * size + 500n)} to`);
  // The newer timeline's file begins with what the older one's had.
  await put(segmentName(2, 171n * size, size), randomBytes(Number(size)));
  await require(170n * size, 172n * size);
  // What the older one wrote after it was left is on no way.
  await put(name(172n), randomBytes(Number(size)));
  await expect(require(170n * size, 173n * size)).rejects.toMatchObject({ reason: "WAL_MISSING" });
});

test("an encrypted file is read with its identity, and known to be the same without it", async () => {
  const key = (await runProgram("age-keygen", [], { env: { PATH: "/usr/bin:/bin" } })).stdout;
  const recipient = /age1[0-9a-z]{58}/.exec(key)?.[0] ?? "";
  const bytes = randomBytes(Number(size));
  await put(name(50n), bytes, [recipient]);
  await put(name(50n), bytes, [recipient]);
  const others = put(name(50n), randomBytes(Number(size)), [recipient]);
  await expect(others).rejects.toMatchObject({ reason: "WAL_CONFLICT" });
  const path = join(folder, "secret");
  const wal = { place, name: name(50n), signal };
  await expect(fetchWal(storage, wal, path)).rejects.toMatchObject({ reason: "IDENTITY_MISSING" });
  expect(await fetchWal(storage, { ...wal, identities: key }, path)).toBe(true);
  expect((await readFile(path)).equals(bytes)).toBe(true);
});

test("of a segment that was never whole the longest part is read, and nothing behind the end that was set", async () => {
  const longer = randomBytes(Number(size));
  await put(partialName(1, 9n * size + 100n, size), randomBytes(Number(size)));
  await put(partialName(1, 9n * size + 5000n, size), longer);
  const path = join(folder, "part");
  expect(await fetchWal(storage, { place, name: name(9n), signal }, path)).toBe(true);
  expect((await readFile(path)).equals(longer)).toBe(true);
  const wal = { place, name: name(2n), signal };
  expect(await fetchWal(storage, { ...wal, endLsn: 2n * size + 10n }, path)).toBe(true);
  const cut = await readFile(path);
  expect(cut.length).toBe(Number(size));
  expect(cut.subarray(0, 10).equals(segments[1]?.bytes.subarray(0, 10) ?? Buffer.alloc(0))).toBe(true);
  expect(cut.subarray(10).every((byte) => byte === 0)).toBe(true);
  expect(await fetchWal(storage, { ...wal, endLsn: 2n * size }, path), formatLsn(2n * size)).toBe(false);
});

test("a flipped bit and a missing repository are never taken for a file that is not there", async () => {
  const path = join(folder, "bad");
  await put(name(70n), randomBytes(Number(size)));
  const [file = ""] = (await readdir(repository, { recursive: true })).filter((one) => one.endsWith(name(70n)));
  const stored = await readFile(join(repository, file));
  stored[5000] = (stored[5000] ?? 0) ^ 1;
  await writeFile(join(repository, file), stored);
  await expect(fetchWal(storage, { place, name: name(70n), signal }, path)).rejects.toMatchObject({
    reason: "CONTENT_UNREADABLE",
  });
  await rename(repository, `${repository}.away`);
  await mkdir(repository);
  const elsewhere = await openFilesystem(repository, "op_test");
  await expect(fetchWal(elsewhere, { place, name: name(1n), signal }, path)).rejects.toMatchObject({
    reason: "REPOSITORY_UNREACHABLE",
  });
  await rm(repository, { recursive: true });
  await rename(`${repository}.away`, repository);
  expect((await readdir(folder)).filter((one) => one.includes(".coppice"))).toEqual([]);
});

const run = (file: string, args: readonly string[]) =>
  runProgram(file, args, { env: { PATH: process.env["PATH"], COPPICE_WAL_TRIES: "1" } });

test("coppice-wal gets files from the agent's socket: 0, 1 when it surely is not there, 126 otherwise", async () => {
  const socketPath = join(folder, "wal.sock");
  const path = join(folder, "out");
  {
    const served: string[] = [];
    await using _server = await openFetchServer({
      storage,
      socketPath,
      wal: { place, signal },
      folder: join(folder, "ahead"),
      waitMs: 0,
      onServed: (one) => served.push(one),
    });
    for (const { number, bytes } of segments) {
      expect((await run(shim, ["fetch", socketPath, name(number), path])).code).toBe(0);
      expect((await readFile(path)).equals(bytes)).toBe(true);
    }
    expect(served).toEqual([name(1n), name(2n)]);
    expect((await run(shim, ["fetch", socketPath, name(3n), path])).code).toBe(1);
    expect((await run(shim, ["fetch", socketPath, "00000002.history", path])).code).toBe(1);
    const bad = await run(shim, ["fetch", socketPath, name(70n), path]);
    expect(bad).toMatchObject({ code: 126, stderr: expect.stringContaining(name(70n)) as unknown });
  }
  expect((await run(shim, ["fetch", socketPath, name(1n), path])).code).toBe(126);
});

test("WAL that is handed out to a server is read and asked for by the server's user alone", async () => {
  const workFolder = await mkdtemp(join(tmpdir(), "coppice-replay-"));
  await chmod(workFolder, 0o711);
  const user = await lookUpUser("postgres", signal);
  const wal = { place, signal };
  const server = { dataDirectory: join(folder, "data"), isScratch: false };
  try {
    await using replay = await openReplay({ storage, workFolder, user, server, wal, onServed: () => {} });
    const [, socketPath = ""] = /'fetch' '([^']+)'/.exec(replay.restoreCommand) ?? [];
    const ask = (who: string) =>
      run("setpriv", [
        `--reuid=${who}`,
        "--regid=nogroup",
        "--clear-groups",
        "sh",
        "-c",
        'cat "$(curl --silent --fail --unix-socket "$0" "http://localhost/$1")" | wc -c',
        socketPath,
        name(1n),
      ]);
    expect((await ask(user.name)).stdout.trim()).toBe(String(size));
    expect((await ask("nobody")).stdout.trim()).not.toBe(String(size));
    const given = (await readdir(dirname(socketPath))).find((one) => one.endsWith(name(1n))) ?? "";
    const stolen = await run("setpriv", ["--reuid=nobody", "--clear-groups", "cat", join(dirname(socketPath), given)]);
    expect(stolen).toMatchObject({ code: 1, stderr: expect.stringContaining("Permission denied") as unknown });
  } finally {
    await rm(workFolder, { recursive: true, force: true });
  }
});

test("what could not be had, and is handed out to another try, is no reason of anything", async () => {
  const server = { dataDirectory: join(folder, "data"), isScratch: false };
  const wal = { place, signal };
  await using replay = await openReplay({
    storage,
    workFolder: folder,
    user: undefined,
    server,
    wal,
    onServed: () => {},
  });
  const [, socketPath = ""] = /'fetch' '([^']+)'/.exec(replay.restoreCommand) ?? [];
  const path = join(folder, "another-try");
  const stored = join(repository, walKey(place, name(2n)));
  const bytes = await readFile(stored);
  await writeFile(stored, bytes.subarray(0, 1000));
  expect((await run(shim, ["fetch", socketPath, name(2n), path])).code).toBe(126);
  expect(replay.refused()).toMatchObject({ message: expect.stringContaining(name(2n)) as unknown });
  await writeFile(stored, bytes);
  expect((await run(shim, ["fetch", socketPath, name(2n), path])).code).toBe(0);
  expect(replay.refused()).toBeUndefined();
});

test("coppice-agent fetch does the same from the repository alone", async () => {
  const path = join(folder, "offline");
  const fetchIt = (file: string, repo = repository) =>
    run(
      process.execPath,
      `${main} fetch --wait 1 --cluster ${place.clusterId} --system-identifier ${place.systemIdentifier} --repo ${repo} ${file} ${path}`.split(
        " ",
      ),
    );
  expect(await fetchIt(name(1n))).toMatchObject({ code: 0, stderr: "" });
  expect((await readFile(path)).equals(segments[0]?.bytes ?? Buffer.alloc(0))).toBe(true);
  expect((await fetchIt(name(4n))).code).toBe(1);
  expect((await fetchIt(name(1n), join(folder, "nowhere"))).code).toBe(126);
});
