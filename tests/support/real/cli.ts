import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable, Writable } from "node:stream";
import { runProgram } from "../../../cli/src/app.ts";
import type { ControlPlaneLab } from "../control-plane-lab.ts";

/** How a command line ended, and what it said. */
export interface CliEnd {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The CLI, logged in at a control plane of a test and run within this process: starting one takes seconds. */
export interface TestCli extends AsyncDisposable {
  /** Runs a command line to its end. */
  run(args: readonly string[], options?: { input?: string }): Promise<CliEnd>;
  /** Runs one that must succeed, and gives what it printed. */
  must(args: readonly string[], options?: { input?: string }): Promise<string>;
}

/** Makes one with a home of its own. */
export async function openTestCli(lab: ControlPlaneLab): Promise<TestCli> {
  const home = await mkdtemp(join(tmpdir(), "coppice-cli-"));
  const env = {
    HOME: home,
    COPPICE_ADDRESS: lab.app.address,
    COPPICE_TOKEN: lab.adminToken,
    COPPICE_CA_FINGERPRINT: lab.app.caFingerprint,
  };
  const run: TestCli["run"] = async (args, { input = "" } = {}) => {
    const said = { stdout: "", stderr: "" };
    const sink = (name: keyof typeof said) =>
      new Writable({
        write(chunk: Buffer, _encoding, done) {
          said[name] += chunk.toString();
          done();
        },
      });
    const own = {
      argv: ["node", "coppice", ...args],
      env,
      stdin: Readable.from(input === "" ? [] : [Buffer.from(input)]),
      stdout: sink("stdout"),
      stderr: sink("stderr"),
      // Interrupts are for whoever runs the tests.
      on: () => process,
      off: () => process,
    };
    const host = new Proxy(process, {
      get: (target, name): unknown => Reflect.get(name in own ? own : target, name),
    });
    const code = await runProgram(host, "0.0.0-test");
    return { code, ...said };
  };
  return {
    run,
    async must(args, options) {
      const ended = await run(args, options);
      if (ended.code !== 0) throw new Error(`coppice ${args.join(" ")} ended with ${ended.code}: ${ended.stderr}`);
      return ended.stdout;
    },
    [Symbol.asyncDispose]: () => rm(home, { recursive: true, force: true }),
  };
}
