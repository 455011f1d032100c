// One thing: a control plane with its agents as processes, and every way in which a test gets at them.
import { chmod, chown, mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Background, lastLines, startBackground } from "./background.ts";
import { freePort } from "./free-port.ts";
import { findPrograms } from "./programs.ts";
import { type Ended, runProgram } from "./run-program.ts";
import { type JsonCall, openJsonCall } from "./scenarios/json-call.ts";
import { openOtherUser } from "./scenarios/other-user.ts";

/** A running control plane with its agents, each a process of its own, as on a real fleet. */
export interface Installation extends AsyncDisposable {
  /** Folder of everything: data, logs, the CLI's profile. */
  readonly folder: string;
  /** Address of the control plane. */
  readonly address: string;
  readonly caFingerprint: string;
  /** Value of the first admin token. */
  readonly adminToken: string;
  /** Environment in which the CLI finds the control plane. */
  readonly env: NodeJS.ProcessEnv;
  /** Runs the CLI to its end. */
  coppice(
    args: readonly string[],
    options?: { readonly input?: string; readonly signal?: AbortSignal },
  ): Promise<Ended>;
  /** Runs the CLI, which must succeed, and gives what it printed. */
  must(args: readonly string[], options?: { readonly input?: string }): Promise<string>;
  /** As `must`, with `-o json`. */
  json<Answer>(args: readonly string[]): Promise<Answer>;
  /** Calls a method of the API, for looks that are no part of what a test is about. */
  readonly call: JsonCall;
  /** Enrols a host of that name and starts its agent; returns once it is connected. */
  addAgent(name: string, options?: AgentOptions): Promise<void>;
  /** Starts an agent that was stopped or killed. */
  startAgent(name: string): void;
  agent(name: string): Background;
  controlPlane(): Background;
  /** Starts the control plane again, at the same address; returns once it is ready. */
  startControlPlane(): Promise<void>;
  /** Logs of every process, for a scan. */
  logFiles(): readonly string[];
}

/** How an agent is started, other than by whoever runs the tests. */
export interface AgentOptions {
  /** User of the machine that it runs as; only root can ask for another one. */
  readonly user?: string;
  /** Command line that becomes the agent's by `exec`, so that its pid stays; the agent's is put behind it. */
  readonly through?: readonly string[];
}

/** Settings of an installation. */
export interface InstallationOptions {
  /** Pause between heartbeats; short, so that a lost agent is noticed soon. */
  readonly heartbeat?: string;
  /** A catalog elsewhere; without it the embedded one. */
  readonly databaseUrl?: string;
  /** Folder to work in; it is removed at the end. Without it one under the system's temporary folder. */
  readonly folder?: string;
}

const readyDeadlineMs = 60_000;

/** Waits until the condition gives something, and gives that; fails after the deadline with what it was waiting for. */
export async function waitFor<Value>(
  what: string,
  condition: () => Promise<Value | undefined | false>,
  deadlineMs = 30_000,
): Promise<Value> {
  const end = performance.now() + deadlineMs;
  for (;;) {
    const value = await condition();
    if (value !== undefined && value !== false) return value;
    if (performance.now() > end) throw new Error(`waited ${deadlineMs} ms in vain until ${what}`);
    await delay(100);
  }
}

/** The agent's command line as another user, who gets the data folder. */
async function becomeUser(
  user: string,
  { agent, dataDir, folder }: { readonly agent: string; readonly dataDir: string; readonly folder: string },
): Promise<string[]> {
  const other = await openOtherUser(user, { agent, folder });
  await mkdir(dataDir, { mode: 0o700 });
  await chown(dataDir, other.uid, other.gid);
  return [...other.commandLine];
}

/** Starts a control plane from the installed tree in a temporary folder. Disposing of it ends all and removes it. */
export async function openInstallation(options: InstallationOptions = {}): Promise<Installation> {
  const programs = findPrograms();
  const folder = options.folder ?? (await mkdtemp(join(tmpdir(), "coppice-test-")));
  // The embedded catalog's server runs as another user when this is root, and must be able to enter.
  await chmod(folder, 0o755);
  await mkdir(join(folder, "home"), { recursive: true });
  const port = await freePort();
  const address = `https://127.0.0.1:${port}`;
  const baseEnv: NodeJS.ProcessEnv = {
    PATH: process.env["PATH"],
    LANG: "C.UTF-8",
    HOME: join(folder, "home"),
    // Not those of a Coppice that is installed on this machine.
    COPPICE_CONFIG: "/dev/null",
    COPPICE_AGENT_CONFIG: "/dev/null",
  };
  const tokenFile = join(folder, "admin-token");
  const processes = new Map<string, Background>();
  const logs = new Set<string>();

  const commandLines = new Map<string, readonly string[]>();

  const start = (name: string, file: string, args: readonly string[], env: NodeJS.ProcessEnv = {}) => {
    const logFile = join(folder, `${name}.log`);
    logs.add(logFile);
    const background = startBackground(file, args, { logFile, env: { ...baseEnv, ...env } });
    processes.set(name, background);
    return background;
  };
  const running = (name: string) => {
    const found = processes.get(name);
    if (!found) throw new Error(`${name} was not started`);
    return found;
  };
  const startControlPlane = async () => {
    const background = start(
      "control",
      programs.control,
      [
        "serve",
        "--data-dir",
        join(folder, "control"),
        "--listen",
        `127.0.0.1:${port}`,
        "--bootstrap-token-file",
        tokenFile,
      ],
      {
        COPPICE_HEARTBEAT_INTERVAL: options.heartbeat ?? "2s",
        // Wins over the settings of a control plane that is installed on this machine.
        COPPICE_ADDRESSES: address,
        ...(options.databaseUrl ? { COPPICE_DATABASE_URL: options.databaseUrl } : {}),
      },
    );
    let exit: number | NodeJS.Signals | undefined;
    void background.ended.then((code) => (exit = code));
    await waitFor(
      "the control plane is ready",
      async () => {
        if (exit !== undefined) {
          throw new Error(`coppice-control ended with ${exit}:\n${await lastLines(background.logFile)}`);
        }
        const answer = await runProgram("curl", ["-ksf", `${address}/readyz`], { env: baseEnv });
        return answer.code === 0;
      },
      readyDeadlineMs,
    );
  };
  const startAgent = (name: string) => {
    const [file = programs.agent, ...args] = commandLines.get(name) ?? [programs.agent];
    start(`agent-${name}`, file, [...args, "run", "--data-dir", join(folder, `agent-${name}`)]);
  };

  const stack = new AsyncDisposableStack();
  stack.defer(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));
  // Agents first: a control plane that goes away before them is another story.
  stack.defer(async () => {
    const control = processes.get("control");
    processes.delete("control");
    await Promise.all([...processes.values()].map((process) => process[Symbol.asyncDispose]()));
    await control?.[Symbol.asyncDispose]();
  });
  try {
    await startControlPlane();
    // It is ready to answer a moment before it has said all that its first start says.
    const caFingerprint = await waitFor("the control plane says its fingerprint", async () => {
      const said = await readFile(running("control").logFile, "utf8");
      return /^CA fingerprint (sha256:[0-9a-f]{64})$/m.exec(said)?.[1];
    });
    const adminToken = (await readFile(tokenFile, "utf8")).trim();
    const env: NodeJS.ProcessEnv = {
      ...baseEnv,
      COPPICE_ADDRESS: address,
      COPPICE_TOKEN: adminToken,
      COPPICE_CA_FINGERPRINT: caFingerprint,
    };
    const coppice: Installation["coppice"] = (args, { input, signal } = {}) =>
      runProgram(programs.coppice, args, {
        env,
        ...(input === undefined ? {} : { input }),
        ...(signal ? { signal } : {}),
      });
    const must: Installation["must"] = async (args, given) => {
      const { code, stdout, stderr } = await coppice(args, given);
      if (code !== 0) throw new Error(`coppice ${args.join(" ")} ended with ${code}:\n${stdout}${stderr}`);
      return stdout;
    };
    const json = async <Answer>(args: readonly string[]) => JSON.parse(await must([...args, "-o", "json"])) as Answer;
    const call = openJsonCall(address, adminToken);
    const owned = stack.move();
    return {
      folder,
      address,
      caFingerprint,
      adminToken,
      env,
      coppice,
      must,
      json,
      call,
      async addAgent(name, { user, through = [] } = {}) {
        const { token } = await call<{ token: string }>("HostService/CreateEnrolment", { hostName: name });
        const dataDir = join(folder, `agent-${name}`);
        const become = user === undefined ? [] : await becomeUser(user, { agent: programs.agent, dataDir, folder });
        const commandLine = [...through, ...(become.length > 0 ? become : [programs.agent])];
        commandLines.set(name, commandLine);
        const [file = programs.agent, ...args] = commandLine;
        const enrolled = await runProgram(file, [...args, "enroll", "-", "--data-dir", dataDir], {
          env: baseEnv,
          input: token,
        });
        if (enrolled.code !== 0) throw new Error(`coppice-agent enroll: ${enrolled.stderr}`);
        startAgent(name);
        await waitFor(`the agent of ${name} is connected`, async () => {
          const host = await call<{ state: string }>("HostService/GetHost", { host: name });
          return host.state === "HOST_STATE_CONNECTED";
        });
      },
      startAgent,
      agent: (name) => running(`agent-${name}`),
      controlPlane: () => running("control"),
      startControlPlane,
      logFiles: () => [...logs],
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}
