import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PutObjectCommand } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type CephLab, openCephLab, whyNoCephLab } from "../support/ceph/lab.ts";
import { newBucket, ownerClient } from "../support/ceph/s3-place.ts";
import { type HostCredentials, serveHostCredentials } from "../support/ceph/host-credentials.ts";
import { findPrograms } from "../support/programs.ts";
import { type Ended, runProgram } from "../support/run-program.ts";

const stack = new AsyncDisposableStack();
const unavailable = whyNoCephLab();
let lab: CephLab;
let folder: string;
let host: HostCredentials;
let place: readonly string[];

beforeAll(async () => {
  if (unavailable !== undefined) return;
  lab = await openCephLab();
  folder = await mkdtemp(join(tmpdir(), "coppice-host-keys-"));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  host = stack.use(await serveHostCredentials(lab.owner, "container-token"));
  const { bucket } = await newBucket(lab);
  const client = ownerClient(lab);
  await client.send(new PutObjectCommand({ Bucket: bucket, Key: "prod/holiday.jpg", Body: "x" }));
  client.destroy();
  place = ["--repo", `s3://${bucket}/prod`, "--endpoint", lab.endpoint, "--region", lab.region];
});
beforeEach(({ skip }) => {
  if (unavailable !== undefined) skip(unavailable);
});
afterAll(() => stack.disposeAsync());

/** The installed agent on a host that has what `env` says and nothing else. */
const list = (env: NodeJS.ProcessEnv, ...more: string[]): Promise<Ended> =>
  runProgram(findPrograms().agent, ["ls", ...place, ...more], { env: { PATH: "/usr/bin:/bin", HOME: folder, ...env } });

const noMetadata = { AWS_EC2_METADATA_DISABLED: "true" };
// What there is to be seen is no cluster.
const seen = { code: 3, stdout: expect.stringContaining("1 object that no Coppice has made") as string, stderr: "" };

test("without keys of the repository's own those of the agent's environment are used", async () => {
  const { accessKeyId, secretAccessKey } = lab.owner;
  const keys = { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey };
  expect(await list({ ...noMetadata, ...keys })).toMatchObject(seen);
});

test("a profile of the shared files is used, the default one or the one that is named", async () => {
  const keys = ({ accessKeyId, secretAccessKey }: typeof lab.owner) =>
    `aws_access_key_id = ${accessKeyId}\naws_secret_access_key = ${secretAccessKey}\n`;
  const [credentials, config] = [join(folder, "credentials"), join(folder, "config")];
  await writeFile(
    credentials,
    `[default]\n${keys(lab.owner)}[stranger]\n${keys({ ...lab.owner, accessKeyId: "NOBODY" })}`,
  );
  await writeFile(config, `[profile backups]\n${keys(lab.owner)}`);
  const files = { ...noMetadata, AWS_SHARED_CREDENTIALS_FILE: credentials, AWS_CONFIG_FILE: config };
  expect(await list(files)).toMatchObject(seen);
  expect(await list(files, "--profile", "backups")).toMatchObject(seen);
  const stranger = await list(files, "--profile", "stranger");
  expect(stranger).toMatchObject({ code: 4, stdout: "" });
  expect(stranger.stderr).toContain("InvalidAccessKeyId");
  const none = await list(files, "--profile", "nobody");
  expect(none).toMatchObject({ code: 4, stdout: "" });
  expect(none.stderr).toMatch(/no credentials of its own[^]*\n {2}next: .*environment, profile or instance role/);
});

test("an instance's role is asked of its metadata, by a session's token", async () => {
  host.requests.splice(0);
  expect(await list({ AWS_EC2_METADATA_SERVICE_ENDPOINT: host.endpoint })).toMatchObject(seen);
  expect(host.requests[0]).toBe("PUT /latest/api/token");
  expect(host.requests.at(-1)).toBe("GET /latest/meta-data/iam/security-credentials/backup-host");
});

test("a container's role is asked of the address that it is given", async () => {
  const role = { ...noMetadata, AWS_CONTAINER_CREDENTIALS_FULL_URI: `${host.endpoint}/role` };
  expect(await list({ ...role, AWS_CONTAINER_AUTHORIZATION_TOKEN: "container-token" })).toMatchObject(seen);
  const refused = await list({ ...role, AWS_CONTAINER_AUTHORIZATION_TOKEN: "another" });
  expect(refused).toMatchObject({ code: 4, stdout: "" });
  expect(refused.stderr).toMatch(/^✗ .*no credentials of its own and none were given/);
});

test("a host without any is told so, and what would give it some", async () => {
  const none = await list(noMetadata);
  expect(none).toMatchObject({ code: 4, stdout: "" });
  expect(none.stderr).toMatch(/^✗ .*this host has no credentials of its own and none were given/);
  expect(none.stderr).toMatch(/^ {2}next: give an access key, or let the host have one/m);
});
