import { execFileSync } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { Readable } from "node:stream";
import { expect, test } from "vitest";
import { openChain } from "../host/chain.ts";
import { type Codec, decodePrograms, encodePrograms, encodingSuffix, parseCodec } from "./stages.ts";

const signal = new AbortController().signal;
const plain = Buffer.from("all work and no play ".repeat(10_000));

function makeIdentity(): { recipient: string; identity: string } {
  const text = execFileSync("age-keygen", { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  const [recipient = "", identity = ""] = [/age1[0-9a-z]{58}/.exec(text)?.[0], /AGE-SECRET-KEY-1\S+/.exec(text)?.[0]];
  return { recipient, identity };
}

async function run(programs: Parameters<typeof openChain>[0], bytes: Buffer): Promise<Buffer> {
  await using chain = await openChain(programs, { signal, input: Readable.from([bytes]) });
  return Buffer.concat((await Array.fromAsync(chain.output)) as Buffer[]);
}

const table: [codec: Codec, level: number, isEncrypted: boolean][] = [
  ["zstd", 0, false],
  ["zstd", 1, true],
  ["zstd", 19, false],
  ["gzip", 0, true],
  ["gzip", 9, false],
  ["none", 0, true],
];

test.each(table)(
  "what %s encodes at level %i, encrypted: %s, decodes to itself, and a broken copy does not",
  async (codec, level, encrypted) => {
    const { recipient, identity } = makeIdentity();
    const other = makeIdentity();
    const recipients = encrypted ? [other.recipient, recipient] : [];
    const stored = await run(encodePrograms({ codec, level, recipients }), plain);
    expect(stored.length < plain.length).toBe(codec !== "none");
    const decode = decodePrograms({ codec, encrypted }, `# a comment\n${identity}\n`);
    expect((await run(decode, stored)).equals(plain)).toBe(true);
    // The last byte of gzip is the length's, of the others the checksum's.
    stored.writeUInt8(stored.readUInt8(stored.length - 1) ^ 1, stored.length - 1);
    await expect(run(decode, stored)).rejects.toMatchObject({ reason: "PROGRAM_FAILED" });
    await expect(run(decode, stored.subarray(0, -20))).rejects.toMatchObject({ reason: "PROGRAM_FAILED" });
  },
);

test.each(["zstd", "gzip"] as const)("a file of %s that is cut off is said to be so", async (codec) => {
  const stored = await run(encodePrograms({ codec, level: 3, recipients: [] }), plain);
  const decode = decodePrograms({ codec, encrypted: false }, undefined);
  await expect(run(decode, stored.subarray(0, -20))).rejects.toMatchObject({
    hint: "the file is cut off: take it again, or fetch it again",
  });
});

test("codec none needs no program, and other codecs are not known", () => {
  expect(encodePrograms({ codec: "none", level: 3, recipients: [] })).toEqual([]);
  expect(decodePrograms({ codec: "none", encrypted: false }, undefined)).toEqual([]);
  expect(["zstd", "none", "gzip", "lz4", ""].map(parseCodec)).toEqual(["zstd", "none", "gzip", undefined, undefined]);
  expect(() => decodePrograms({ codec: "lz4", encrypted: false }, undefined)).toThrow('the codec "lz4" is unknown');
  expect(encodingSuffix({ codec: "gzip", encrypted: true })).toBe(".gz.age");
});

test("an encrypted stream without an identity is refused before a program is started", () => {
  expect(() => decodePrograms({ codec: "zstd", encrypted: true }, undefined)).toThrow("no identity was given");
});

/** What any user can read of every process, and the names below the folder of secrets. */
async function look(): Promise<string> {
  const ids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  // A process may end while it is looked at.
  const lines = ids.flatMap((id) =>
    ["cmdline", "environ"].map((name) => readFile(`/proc/${id}/${name}`, "utf8").catch(() => "")),
  );
  return [...(await Promise.all(lines)), ...(await readdir("/dev/shm"))].join("\n");
}

/** What lies in the memory's folder, but for what servers of others have there. */
const memoryFolder = async () => (await readdir("/dev/shm")).filter((name) => !name.startsWith("PostgreSQL."));

test("while age decrypts the identity is in no argument, no environment and no folder, and no descriptor of ours", async () => {
  const { recipient, identity } = makeIdentity();
  const stored = await run(encodePrograms({ codec: "none", level: 0, recipients: [recipient] }), Buffer.alloc(1 << 20));
  const before = [await memoryFolder(), (await readdir("/proc/self/fd")).length];
  let release = () => {};
  const held = new Promise<void>((resolve) => (release = resolve));
  async function* slowly() {
    yield stored.subarray(0, 200_000);
    await held;
    yield stored.subarray(200_000);
  }
  await using chain = await openChain(decodePrograms({ codec: "none", encrypted: true }, identity), {
    signal,
    input: Readable.from(slowly()),
  });
  const output = chain.output[Symbol.asyncIterator]();
  // It has read the identity: plain bytes come out.
  const first = (await output.next()).value as Buffer;
  const seen = await look();
  expect(seen).toContain("/dev/fd/3");
  expect(seen).not.toContain(identity);
  expect(seen).not.toContain(identity.slice(20, 40));
  release();
  let size = first.length;
  for (let next = await output.next(); !next.done; next = await output.next()) size += (next.value as Buffer).length;
  expect(size).toBe(1 << 20);
  await chain.done;
  expect(await memoryFolder()).toEqual(before[0]);
  await expect.poll(async () => (await readdir("/proc/self/fd")).length).toBeLessThanOrEqual(Number(before[1]));
});
