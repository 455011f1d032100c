import type { ChildProcess } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { freePort } from "../free-port.ts";
import { cephConfiguration } from "./configuration.ts";
import { runCeph, startDaemon, untilReady } from "./programs.ts";

/** Keys of a user of the S3 server. */
export interface CephUser {
  readonly name: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

/** Makes and starts monitor and OSD of a new cluster in an empty folder; they end with this process. */
export async function startCluster(folder: string): Promise<void> {
  const fsid = randomUUID();
  const monitorPort = await freePort();
  const conf = join(folder, "ceph.conf");
  const keyring = join(folder, "keyring");
  await Promise.all(["mon", "osd", "rgw"].map((name) => mkdir(join(folder, name), { recursive: true })));
  await writeFile(conf, cephConfiguration({ folder, fsid, monitorPort }));
  await Promise.all([makeKeyring(keyring), makeCertificate(folder)]);
  const map = join(folder, "monmap");
  const address = `[v2:127.0.0.1:${monitorPort}/0]`;
  await runCeph("monmaptool", ["--create", "--clobber", "--fsid", fsid, "--addv", "a", address, map]);
  await runCeph("ceph-mon", ["-c", conf, "-i", "a", "--mkfs", "--monmap", map, "--keyring", keyring]);

  const monitor = start("ceph-mon", ["-c", conf, "-i", "a", "-f"], folder);
  await untilReady("ceph-mon", monitor, () => succeeds(() => ceph(folder, ["mon", "stat"], 5)));
  const uuid = randomUUID();
  await ceph(folder, ["osd", "new", uuid, "0"]);
  await runCeph("ceph-osd", ["-c", conf, "-i", "0", "--mkfs", "--osd-uuid", uuid]);
  const osd = start("ceph-osd", ["-c", conf, "-i", "0", "-f"], folder);
  await untilReady("ceph-osd", osd, async () => /\b1 up\b.*\b1 in\b/.test(await ceph(folder, ["osd", "stat"])));
}

/** Runs `ceph` against the cluster in the folder. */
export async function ceph(folder: string, args: readonly string[], seconds = 60): Promise<string> {
  return runCeph("ceph", ["-c", join(folder, "ceph.conf"), "--connect-timeout", String(seconds), ...args], seconds + 5);
}

/** Runs `radosgw-admin` against the cluster in the folder. */
export async function radosgwAdmin(folder: string, args: readonly string[]): Promise<string> {
  const log = `--log-file=${folder}/radosgw-admin.log`;
  return runCeph("radosgw-admin", ["-c", join(folder, "ceph.conf"), "-n", "client.rgw", log, ...args]);
}

/** Makes a user of the S3 server with keys of its own. */
export async function addUser(folder: string, name: string): Promise<CephUser> {
  const user = { name, accessKeyId: `KEY${randomUUID().slice(0, 13)}`, secretAccessKey: randomUUID() };
  const keys = [`--access-key=${user.accessKeyId}`, `--secret-key=${user.secretAccessKey}`];
  await radosgwAdmin(folder, ["user", "create", `--uid=${name}`, `--display-name=${name}`, ...keys]);
  return user;
}

function start(program: string, args: readonly string[], folder: string): { child: ChildProcess; logFile: string } {
  const logFile = join(folder, `${program}.out`);
  return { child: startDaemon(program, args, logFile), logFile };
}

async function succeeds(run: () => Promise<unknown>): Promise<boolean> {
  return run().then(
    () => true,
    () => false,
  );
}

async function makeKeyring(path: string): Promise<void> {
  await writeFile(path, "", { mode: 0o600 });
  const all = ["--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *"];
  const osd = ["--cap", "mon", "allow profile osd", "--cap", "osd", "allow *", "--cap", "mgr", "allow *"];
  for (const [name, caps] of [
    ["mon.", ["--cap", "mon", "allow *"]],
    ["client.admin", all],
    ["osd.0", osd],
    ["client.rgw", all],
  ] as const) {
    await runCeph("ceph-authtool", [path, "--gen-key", "-n", name, ...caps]);
  }
}

async function makeCertificate(folder: string): Promise<void> {
  const names = "subjectAltName=DNS:localhost,IP:127.0.0.1";
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", `${folder}/key.pem`];
  const args = ["req", "-x509", ...key, "-days", "30", "-subj", "/CN=localhost", "-addext", names];
  await runCeph("openssl", [...args, "-out", `${folder}/cert.pem`]);
  await readFile(`${folder}/cert.pem`);
}
