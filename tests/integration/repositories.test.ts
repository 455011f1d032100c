// One thing: what is told of repositories and what is kept secret of them, by one control plane that takes seconds to start.
import { randomBytes } from "node:crypto";
import { toJsonString } from "@bufbuild/protobuf";
import { CommandSchema } from "@coppice/proto/gen/coppice/agent/v1/command";
import { AuditService, ListAuditRecordsResponseSchema } from "@coppice/proto/gen/coppice/control/v1/audit";
import { HostService } from "@coppice/proto/gen/coppice/control/v1/host";
import {
  ListRepositoriesResponseSchema,
  RepositorySchema,
  RepositoryService,
} from "@coppice/proto/gen/coppice/control/v1/repository";
import { failureFromConnectError } from "@coppice/proto/kit/connect-failure";
import type { Failure } from "@coppice/proto/kit/failure";
import { armor, Decrypter, generateX25519Identity, identityToRecipient } from "age-encryption";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ControlPlaneLab, openControlPlaneLab } from "../support/control-plane-lab.ts";
import { openSimulatedAgent } from "../support/simulated-agent.ts";

const heartbeatMs = 1_000;
const bucket = (prefix: string) => ({ kind: { case: "s3" as const, value: { bucket: "acme-backups", prefix } } });
const hostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHkHUSW+MBlSaa1WbKqCjmW8TZuEANKGhMFF3HYAz6lX";

let lab: ControlPlaneLab;
beforeAll(async () => {
  lab = await openControlPlaneLab({ heartbeatMs });
});
afterAll(() => lab?.[Symbol.asyncDispose]());

const repositories = () => lab.client(RepositoryService);

async function failureOf(call: Promise<unknown>): Promise<Failure> {
  try {
    await call;
  } catch (error) {
    return failureFromConnectError(error);
  }
  throw new Error("the call succeeded");
}

const secrets: string[] = [];
function newSecret(): string {
  const secret = `hunter2${randomBytes(24).toString("hex")}`;
  secrets.push(secret);
  return secret;
}

const s3 = (accessKeyId: string, secretAccessKey = newSecret()) => ({
  kind: { case: "s3" as const, value: { accessKeyId, secretAccessKey, sessionToken: newSecret() } },
});

/** All rows of the catalog's secrets, as text. */
const storedSecrets = () =>
  lab.server.sql("postgres", "select id, purpose, encode(sealed, 'escape') from secret order by id");

/** Connects the agent of a new host, and gives what it is sent for a check of the repository. */
async function commandFor(repository: string, host: string) {
  const identity = await lab.enrol(host);
  using agent = openSimulatedAgent({ identity, address: lab.app.address, heartbeatMs });
  await agent.next("welcome");
  await repositories().checkRepository({ repository, host });
  const command = await agent.next("command");
  // It is answered, so that nothing is under way behind the test.
  agent.answer(command, { failure: { reason: "REPOSITORY_UNREACHABLE", message: "it is a test" } });
  return command;
}

test("credentials are sealed by purpose, and an agent gets the keys that a command needs", async () => {
  const [write, read, remove] = [newSecret(), newSecret(), newSecret()];
  const made = await repositories().createRepository({
    name: "main",
    location: bucket("prod"),
    credentials: { write: s3("AKWRITE", write), read: s3("AKREAD", read), delete: s3("AKDELETE", remove) },
  });
  const ids = made.credentials;
  expect([ids?.write, ids?.read, ids?.delete].every((id) => id?.startsWith("sec_"))).toBe(true);
  expect(new Set([ids?.write, ids?.read, ids?.delete]).size).toBe(3);
  const command = await commandFor("main", "reader");
  const { spec } = command;
  const { write: toWrite, read: toRead, delete: toDelete } = ids ?? {};
  const referred = spec.case === "checkRepository" ? spec.value.repository?.secrets : undefined;
  expect(referred).toMatchObject({ write: toWrite, read: toRead, delete: toDelete });
  const opened = new Map(command.secrets.map(({ id, value }) => [id, value]));
  expect(opened.get(ids?.write ?? "")).toContain(write);
  expect(opened.get(ids?.delete ?? "")).toContain(remove);
  const { secrets: _, ...rest } = command;
  expect(toJsonString(CommandSchema, { ...rest, secrets: [] })).not.toMatch(new RegExp(secrets.join("|")));
});

test("a purpose without credentials of its own falls back on those to write, and without any on the hosts' own", async () => {
  const one = await repositories().createRepository({
    name: "one",
    location: bucket("one"),
    credentials: { write: s3("AKONE") },
  });
  const { spec } = await commandFor("one", "falls-back");
  const id = one.credentials?.write ?? "none";
  const given = spec.case === "checkRepository" ? spec.value.repository?.secrets : undefined;
  expect(given).toMatchObject({ write: id, read: id, delete: id });
  await repositories().createRepository({ name: "own", location: bucket("own") });
  const command = await commandFor("own", "own-keys");
  expect(command.secrets).toEqual([]);
});

test("other credentials take the place of those of their purpose, which are gone; others and the place stay", async () => {
  const before = await repositories().getRepository({ repository: "main" });
  const after = await repositories().updateRepository({
    repository: "main",
    etag: before.etag,
    credentials: { write: s3("AKNEW") },
    requestId: "update-1",
  });
  expect(after.credentials?.write).not.toBe(before.credentials?.write);
  expect(after.credentials?.read).toBe(before.credentials?.read);
  expect(after.location).toEqual(before.location);
  const stored = await storedSecrets();
  expect(stored).not.toContain(before.credentials?.write);
  expect(stored).toContain(after.credentials?.write);
  expect(stored).toContain(after.credentials?.read);
  const again = await repositories().updateRepository({
    repository: "main",
    etag: before.etag,
    credentials: { write: s3("AKNEW") },
    requestId: "update-1",
  });
  expect(again.credentials).toEqual(after.credentials);
  const stale = repositories().updateRepository({
    repository: "main",
    etag: before.etag,
    credentials: { read: s3("AKR") },
  });
  expect(await failureOf(stale)).toMatchObject({ reason: "ETAG_MISMATCH" });
});

test("what does not fit the place is refused by field, and leaves no secret behind", async () => {
  const before = await storedSecrets();
  const ssh = { kind: { case: "ssh" as const, value: { privateKey: newSecret(), passphrase: newSecret() } } };
  const refusals: [() => Promise<unknown>, string][] = [
    [
      () =>
        repositories().createRepository({
          name: "bad",
          location: bucket("bad"),
          credentials: { write: s3("A"), read: ssh },
        }),
      "credentials.read",
    ],
    [() => repositories().updateRepository({ repository: "main", credentials: { delete: ssh } }), "credentials.delete"],
    [() => repositories().updateRepository({ repository: "main", hostKeys: [hostKey] }), "host_keys"],
    [() => repositories().updateRepository({ repository: "main" }), "credentials"],
  ];
  for (const [call, field] of refusals) {
    const failure = await failureOf(call());
    expect(failure.reason).toBe("INVALID_FIELD");
    expect(failure.fields.map((one) => one.field)).toEqual([field]);
    expect(JSON.stringify(failure)).not.toContain("hunter2");
  }
  // A place that is taken is found after the credentials were sealed.
  const taken = repositories().createRepository({
    name: "twin",
    location: bucket("prod"),
    credentials: { write: s3("AKTWIN") },
  });
  expect(await failureOf(taken)).toMatchObject({ reason: "REPOSITORY_EXISTS" });
  expect(await storedSecrets()).toBe(before);
});

test("the pinned keys of an SSH server can be replaced, and a forgotten repository takes its secrets along", async () => {
  const before = await storedSecrets();
  const location = {
    kind: { case: "ssh" as const, value: { host: "vault", user: "backup", path: "/srv", hostKeys: [hostKey] } },
  };
  const key = { kind: { case: "ssh" as const, value: { privateKey: newSecret() } } };
  await repositories().createRepository({ name: "vault", location, credentials: { write: key } });
  const other = hostKey.replace("IHkH", "IHkI");
  const { location: changed } = await repositories().updateRepository({ repository: "vault", hostKeys: [other] });
  expect(changed?.kind.value).toMatchObject({ host: "vault", port: 22, hostKeys: [other] });
  await repositories().deleteRepository({ repository: "vault" });
  expect(await storedSecrets()).toBe(before);
});

test("no answer, no audit row, no log line and no row of the catalog holds a secret that was given", async () => {
  const list = await repositories().listRepositories({});
  const audit = await lab.client(AuditService).listAuditRecords({});
  const tables = await lab.server.sql(
    "postgres",
    "select string_agg(query_to_xml(format('select * from %I', relname), true, true, '')::text, '') from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace",
  );
  const seen = {
    list: toJsonString(ListRepositoriesResponseSchema, list),
    audit: toJsonString(ListAuditRecordsResponseSchema, audit),
    log: lab.logLines.join(""),
    tables,
  };
  expect(list.repositories.length).toBeGreaterThan(2);
  expect(seen.audit).toContain("RepositoryService/UpdateRepository");
  expect(secrets.length).toBeGreaterThan(10);
  for (const [where, text] of Object.entries(seen)) {
    const hex = secrets.map((secret) => Buffer.from(secret).toString("hex"));
    expect(
      [...secrets, ...hex].filter((secret) => text.includes(secret)),
      where,
    ).toEqual([]);
  }
});

test("an encrypted repository takes a recovery identity that was proved, here and now, for this recipient", async () => {
  const identity = await generateX25519Identity();
  const [recoveryRecipient, otherRecipient] = await Promise.all([
    identityToRecipient(identity),
    identityToRecipient(await generateX25519Identity()),
  ]);
  const { encryptedProbe, token } = await repositories().createRecoveryChallenge({ recoveryRecipient });
  const decrypter = new Decrypter();
  decrypter.addIdentity(identity);
  const answer = (await decrypter.decrypt(armor.decode(encryptedProbe), "text")).trim();
  const proof = { recoveryRecipient, challengeToken: token, answer };
  const wrong = [
    { ...proof, answer: "0".repeat(answer.length) },
    { ...proof, recoveryRecipient: otherRecipient },
    { ...proof, challengeToken: token.slice(0, -8) },
    { ...proof, challengeToken: "none" },
  ];
  for (const encryption of wrong) {
    const call = repositories().createRepository({ name: "safe", location: bucket("safe"), encryption });
    expect(await failureOf(call)).toMatchObject({ reason: "RECOVERY_NOT_PROVED" });
  }
  const mistyped = { ...proof, recipients: [`age1${"q".repeat(58)}`] };
  const bad = repositories().createRepository({ name: "safe", location: bucket("safe"), encryption: mistyped });
  expect(await failureOf(bad)).toMatchObject({
    reason: "INVALID_FIELD",
    fields: [{ field: "encryption.recipients" }],
  });
  const safe = await repositories().createRepository({
    name: "safe",
    location: bucket("safe"),
    encryption: { ...proof, recipients: [otherRecipient] },
  });
  expect(safe.encryption).toMatchObject({ recoveryRecipient, hasIdentity: true });
  expect(safe.encryption?.recipients).toHaveLength(3);
  expect(safe.encryption?.recipients).toEqual(expect.arrayContaining([recoveryRecipient, otherRecipient]));
  expect(toJsonString(RepositorySchema, safe)).not.toContain("AGE-SECRET-KEY");
  const alone = await repositories().createRepository({
    name: "alone",
    location: bucket("alone"),
    encryption: { ...proof, withoutIdentity: true },
  });
  expect(alone.encryption).toMatchObject({ recipients: [recoveryRecipient], hasIdentity: false });
  expect(lab.logLines.join("") + (await lab.server.sql("postgres", "select request from audit_record"))).not.toContain(
    answer,
  );
});

test("a host's labels are set and taken away one by one, and audited", async () => {
  const hosts = lab.client(HostService);
  const before = await hosts.getHost({ host: "reader" });
  const labelled = await hosts.updateHost({
    host: "reader",
    etag: before.etag,
    labels: { "may-decrypt": "true", site: "berlin" },
  });
  expect(labelled.labels).toEqual({ "may-decrypt": "true", site: "berlin" });
  expect(await failureOf(hosts.updateHost({ host: "reader", etag: before.etag, labels: {} }))).toMatchObject({
    reason: "ETAG_MISMATCH",
  });
  const { labels } = await hosts.updateHost({
    host: "reader",
    labels: { site: "bonn" },
    removeLabels: ["may-decrypt"],
  });
  expect(labels).toEqual({ site: "bonn" });
  const many = Object.fromEntries(Array.from({ length: 64 }, (_, index) => [`l${index}`, ""]));
  expect(await failureOf(hosts.updateHost({ host: "reader", labels: many }))).toMatchObject({
    reason: "INVALID_FIELD",
  });
  const { records } = await lab.client(AuditService).listAuditRecords({});
  expect(records.filter(({ action }) => action === "HostService/UpdateHost")).toHaveLength(2);
});
