import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chown, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { create } from "@bufbuild/protobuf";
import { type SshLocation, SshLocationSchema } from "@coppice/proto/gen/coppice/common/v1/location";
import { freePort } from "../free-port.ts";

const run = promisify(execFile);
const startDeadlineMs = 10_000;

/** A private OpenSSH server on loopback that lets in the user who runs the tests. */
export interface Sshd extends AsyncDisposable {
  readonly port: number;
  readonly user: string;
  /** Its public key as a location pins it: `<type> <base64>`. */
  readonly hostKey: string;
  /** File of a private key that it lets in. */
  readonly identityFile: string;
  readonly logFile: string;
  /** The location of a folder on it. */
  location(path: string): SshLocation;
  /** Sends a signal to the processes that serve the present connections, and to the server itself. */
  signalAll(signal: NodeJS.Signals): Promise<void>;
  /** Sends a signal to the processes that serve the present connections. */
  signalSessions(signal: NodeJS.Signals): Promise<void>;
}

/** What a server is started with. */
export interface SshdOptions {
  /** The command of its SFTP, by default the one built in. */
  readonly sftpServer?: string;
  /** Type of its own key and of the one that it lets in, as ssh-keygen calls it; ed25519 when left out. */
  readonly keyType?: string;
  /** Runs the server as another user and lets in only him; takes root. */
  readonly as?: { readonly user: string; readonly uid: number; readonly gid: number };
}

/** Starts one; it ends when it is disposed of, and also with the process that started it. */
export async function startSshd(options: SshdOptions = {}): Promise<Sshd> {
  const { sftpServer = "internal-sftp", keyType = "ed25519", as } = options;
  const folder = await mkdtemp(join(tmpdir(), "coppice-sshd-"));
  // Where an unprivileged process of the server is locked up; only a server of root's has one.
  if (process.getuid?.() === 0) await mkdir("/run/sshd", { recursive: true, mode: 0o755 });
  const user = as?.user ?? userInfo().username;
  const hostKey = await makeKey(join(folder, "host-key"), "", keyType);
  const identityFile = join(folder, "identity");
  await writeFile(join(folder, "authorized_keys"), `${await makeKey(identityFile, "", keyType)}\n`);
  const port = await freePort();
  const configFile = join(folder, "sshd_config");
  await writeFile(configFile, configuration(folder, port, { sftpServer, pam: as !== undefined }));
  const logFile = join(folder, "log");
  const become = as ? [`--reuid=${as.uid}`, `--regid=${as.gid}`, "--clear-groups"] : [];
  if (as) for (const name of ["", ...(await readdir(folder))]) await chown(join(folder, name), as.uid, as.gid);
  const args = [...become, "--pdeathsig", "TERM", "/usr/sbin/sshd", "-D", "-f", configFile, "-E", logFile];
  const child = spawn("setpriv", args, { stdio: "ignore", cwd: "/" });
  const { pid } = child;
  if (pid === undefined) throw new Error("sshd did not start");

  const signalSessions = async (signal: NodeJS.Signals) => {
    for (const session of await descendants(pid)) send(session, signal);
  };
  const server: Sshd = {
    port,
    user,
    hostKey,
    identityFile,
    logFile,
    location: (path) =>
      create(SshLocationSchema, {
        host: "127.0.0.1",
        port,
        user,
        path,
        hostKeys: [hostKey],
        identityFile,
      }),
    signalSessions,
    async signalAll(signal) {
      await signalSessions(signal);
      send(pid, signal);
    },
    async [Symbol.asyncDispose]() {
      // Those that are stopped cannot end otherwise.
      await signalSessions("SIGKILL");
      const ended = hasEnded(child) ? undefined : once(child, "exit");
      child.kill("SIGKILL");
      await ended;
      await rm(folder, { recursive: true, force: true });
    },
  };
  try {
    await waitForPort(port, child, logFile);
    return server;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

/** Makes a key pair in a file and gives its public key without a comment. */
export async function makeKey(file: string, passphrase = "", type = "ed25519"): Promise<string> {
  await run("ssh-keygen", [
    "-q",
    "-t",
    type,
    ...(type === "rsa" ? ["-b", "2048"] : []),
    "-N",
    passphrase,
    "-C",
    "",
    "-f",
    file,
  ]);
  return (await readFile(`${file}.pub`, "utf8")).trim();
}

/** Without PAM a server that may not read the shadow file takes every account for a locked one. */
function configuration(
  folder: string,
  port: number,
  { sftpServer, pam }: { sftpServer: string; pam: boolean },
): string {
  return `Port ${port}
ListenAddress 127.0.0.1
HostKey ${folder}/host-key
PidFile none
AuthorizedKeysFile ${folder}/authorized_keys
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM ${pam ? "yes" : "no"}
UseDNS no
MaxStartups 100
Subsystem sftp ${sftpServer}
`;
}

const hasEnded = ({ exitCode, signalCode }: ChildProcess) => exitCode !== null || signalCode !== null;

async function waitForPort(port: number, child: ChildProcess, logFile: string): Promise<void> {
  for (const deadline = Date.now() + startDeadlineMs; ;) {
    const socket = connect(port, "127.0.0.1");
    try {
      await once(socket, "connect");
      return;
    } catch (error) {
      if (!hasEnded(child) && Date.now() < deadline) {
        await delay(10);
        continue;
      }
      throw new Error(`sshd did not start: ${await readFile(logFile, "utf8").catch(() => "")}`, { cause: error });
    } finally {
      socket.destroy();
    }
  }
}

/** Processes below a process, the deepest first. */
async function descendants(pid: number): Promise<number[]> {
  const parents = new Map<number, number>();
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    // One that has ended meanwhile is below nobody.
    const text = await readFile(`/proc/${name}/stat`, "utf8").catch(() => "");
    const [, parent] = text.slice(text.lastIndexOf(")") + 2).split(" ");
    if (parent !== undefined) parents.set(Number(name), Number(parent));
  }
  const below = (top: number): number[] =>
    [...parents].flatMap(([child, parent]) => (parent === top ? [...below(child), child] : []));
  return below(pid);
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    // It has ended meanwhile.
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
