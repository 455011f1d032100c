import { refuseMisgiven } from "@coppice/proto/kit/command-line/refuse-misgiven";
import { Failure, toFailure } from "@coppice/proto/kit/failure";
import type { StatusCode } from "@coppice/proto/kit/reasons";
import { Command, CommanderError } from "commander";
import { type Config, formatConfig, loadConfig } from "./config.ts";
import { addOfflineCommands } from "./offline/commands.ts";
import { agentVersion } from "./version.ts";

interface CommonOptions {
  readonly config?: string;
  readonly dataDir?: string;
  readonly printConfig?: true;
}

const exitCodes: Partial<Record<StatusCode, number>> = {
  invalid_argument: 2,
  not_found: 3,
  failed_precondition: 4,
  already_exists: 4,
  aborted: 4,
  canceled: 130,
  permission_denied: 5,
  unauthenticated: 5,
  unavailable: 6,
  deadline_exceeded: 7,
};

/** Runs what the arguments (without the program's name) say and gives the exit code; speaks on stdout and stderr. */
export async function runCommandLine(args: readonly string[]): Promise<number> {
  const signal = signalOfProcess();
  let exitCode = 0;
  const program = new Command("coppice-agent")
    .description("Protects the PostgreSQL clusters that this host can reach, as the control plane says.")
    .version(`coppice-agent ${agentVersion()}`)
    .exitOverride()
    .configureOutput({ outputError: () => undefined })
    .addHelpText(
      "after",
      "\nExample:\n  printf %s TOKEN | coppice-agent enroll -\n  coppice-agent check\n  coppice-agent run" +
        "\n  coppice-agent ls --repo s3://acme-backups/prod",
    );

  withCommonOptions(program.command("run"))
    .description("run the agent until it is told to stop (SIGTERM, SIGINT)")
    .addHelpText("after", "\nExample:\n  coppice-agent run --data-dir /var/lib/coppice-agent")
    .action(async (options: CommonOptions) => {
      const config = resolveConfig(options);
      if (!config) return;
      const { runAgent } = await import("./app.ts");
      await runAgent(config, signal);
    });

  withCommonOptions(program.command("enroll"))
    .description("enrol this host with the token of `coppice host add`, read from standard input")
    .argument("<->", "- for standard input; a token is never an argument", onlyStandardInput)
    .option("--replace", "give up the enrolment that is there")
    .addHelpText("after", "\nExample:\n  printf %s TOKEN | coppice-agent enroll -")
    .action(async (_input: string, options: CommonOptions & { readonly replace?: true }) => {
      const config = resolveConfig(options);
      if (!config) return;
      const { enrolAgent } = await import("./enroll.ts");
      const replace = options.replace === true;
      const identity = await enrolAgent({ config, replace, input: process.stdin }, signal);
      print(`✓ enrolled as ${identity.hostName} (${identity.hostId}) at ${identity.addresses[0]}`);
      print("  next: systemctl enable --now coppice-agent   (or: coppice-agent run)");
    });

  withCommonOptions(program.command("check"))
    .description(
      "say whom the agent runs as, which clusters it finds and reaches, and whether the control plane answers",
    )
    .addHelpText("after", "\nExample:\n  sudo -u postgres coppice-agent check")
    .action(async (options: CommonOptions) => {
      const config = resolveConfig(options);
      if (!config) return;
      const { checkAgent } = await import("./check.ts");
      exitCode = (await checkAgent(config, print, signal)) ? 0 : 1;
    });

  addOfflineCommands(program, signal, (code) => (exitCode = code));
  refuseMisgiven(program);

  try {
    await program.parseAsync([...args], { from: "user" });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return endOfCommander(error);
    return showFailure(toFailure(error));
  }
}

/** Help and version, which Commander has printed, count as done; what is wrong is said as any failure is. */
function endOfCommander({ code, exitCode, message }: CommanderError): number {
  if (exitCode === 0) return 0;
  if (code === "commander.help") return 2;
  const [what = ""] = message.replace(/^error: /, "").split("\n");
  return showFailure(new Failure("INVALID_FIELD", what, { hint: "see `coppice-agent --help`" }));
}

function withCommonOptions(command: Command): Command {
  return command
    .option("--config <file>", "settings (default: /etc/coppice/agent.yaml, or COPPICE_AGENT_CONFIG)")
    .option("--data-dir <folder>", "folder of the enrolment and the journal (default: /var/lib/coppice-agent)")
    .option("--print-config", "show the settings and do nothing");
}

/** The settings; undefined when they were only to be shown. */
function resolveConfig(options: CommonOptions): Config | undefined {
  const config = loadConfig({ options, env: process.env });
  if (!options.printConfig) return config;
  process.stdout.write(formatConfig(config));
  return undefined;
}

function onlyStandardInput(value: string): string {
  if (value !== "-") {
    throw new Failure("INVALID_FIELD", "the token is read from standard input, not from the arguments", {
      hint: "printf %s TOKEN | coppice-agent enroll -",
    });
  }
  return value;
}

function showFailure(failure: Failure): number {
  process.stderr.write(`✗ ${failure.message}\n`);
  if (failure.reason === "INTERNAL" && failure.cause instanceof Error) process.stderr.write(`${failure.cause.stack}\n`);
  if (failure.hint) process.stderr.write(`  next: ${failure.hint}\n`);
  return exitCodes[failure.code] ?? 1;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Aborted by the first SIGTERM or SIGINT; a second SIGINT ends the process at once. */
function signalOfProcess(): AbortSignal {
  const controller = new AbortController();
  const stop = () => controller.abort(new Failure("CANCELLED", "it was interrupted"));
  process.once("SIGTERM", stop);
  process.once("SIGINT", stop);
  return controller.signal;
}
