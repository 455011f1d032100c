import { openLog } from "@coppice/proto/kit/log";
import { refuseMisgiven } from "@coppice/proto/kit/command-line/refuse-misgiven";
import { fail } from "@coppice/proto/kit/failure";
import { Command, Option } from "commander";
import type { RoleName } from "./catalog/schema/token.ts";
import { type Config, type ConfigOptions, formatConfig, loadConfig } from "./config.ts";
import { findRunningServer } from "./embedded/embedded-postgres.ts";
import { openDatabase } from "./open-database.ts";
import { controlPlaneVersion } from "./version.ts";

const roles = ["viewer", "operator", "admin"] as const;

interface ServeOptions extends ConfigOptions {
  readonly printConfig?: true;
  readonly bootstrapTokenFile?: string;
}

interface TokenOptions extends ConfigOptions {
  readonly name: string;
  readonly role: (typeof roles)[number];
}

/** Where what people are to read goes, a line at a time. */
export type Say = (line: string) => void;

/** Reads the command line and does what it says. Errors: CONFIGURATION_INVALID, Commander's own, and those of what it does. */
export async function runCommand(argv: readonly string[], say: Say): Promise<void> {
  const program = new Command("coppice-control")
    .exitOverride()
    .configureOutput({ outputError: () => undefined })
    .description("The control plane of Coppice: catalog, agents' sessions, operations, API.")
    .version(`coppice-control ${controlPlaneVersion()}`);
  withConfig(program.command("serve"))
    .description("run the control plane until SIGTERM or SIGINT")
    .option("--listen <address:port>", "address to listen on; port 0 lets the system choose")
    .option("--bootstrap-token-file <file>", "write the first admin token there instead of showing it")
    .option("--print-config", "show the settings, secrets hidden, and end")
    .action((options: ServeOptions) => serve(options, say));
  withConfig(program.command("migrate"))
    .description("bring the catalog's schema up to date and end")
    .action((options: ConfigOptions) => migrate(options, say));
  withConfig(program.command("token").description("access tokens").command("create"))
    .description("make a token without having one, on the machine of the control plane")
    .requiredOption("--name <name>", "its name: lower-case letters, digits and inner hyphens")
    .addOption(new Option("--role <role>", "what it may do").choices(roles).makeOptionMandatory())
    .addHelpText("after", "\nExample:\n  coppice-control token create --name admin --role admin")
    .action((options: TokenOptions) => createToken(options, say));
  refuseMisgiven(program);
  await program.parseAsync(argv);
}

function withConfig(command: Command): Command {
  return command
    .option("--config <file>", "settings in YAML; /etc/coppice/control.yaml when it is there")
    .option("--data-dir <folder>", "folder of the master key and the embedded catalog");
}

async function serve(options: ServeOptions, say: Say): Promise<void> {
  const config = loadConfig({ options, env: process.env });
  if (options.printConfig) {
    say(formatConfig(config).trimEnd());
    return;
  }
  const ending = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => ending.abort(signal));
  try {
    await serveUntil(ending.signal, config, options, say);
  } catch (error) {
    // Asked to end while it was starting: what had been opened is closed again, and nothing is wrong.
    if (!ending.signal.aborted || error !== ending.signal.reason) throw error;
  }
}

async function serveUntil(signal: AbortSignal, config: Config, options: ServeOptions, say: Say): Promise<void> {
  // Loaded only now: whoever asks for help or the settings does not wait for it.
  const { openApp } = await import("./app.ts");
  await using app = await openApp(config, {
    log: openLog({ level: config.logLevel, name: "coppice-control" }),
    bootstrapTokenFile: options.bootstrapTokenFile,
    signal,
  });
  say(`listening on ${app.address}`);
  say(`CA fingerprint ${app.caFingerprint}`);
  if (app.bootstrap !== undefined) {
    const where = "file" in app.bootstrap ? `written to ${app.bootstrap.file}` : app.bootstrap.value;
    say(`first admin token, shown only now: ${where}`);
  }
  if (signal.aborted) return;
  await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
}

async function migrate(options: ConfigOptions, say: Say): Promise<void> {
  const { migrateCatalog } = await import("./catalog/migrate.ts");
  await withDatabase(options, async (url) => {
    const { applied } = await migrateCatalog(url);
    say(applied === 0 ? "the catalog is up to date" : `${applied} migrations applied`);
  });
}

async function createToken(options: TokenOptions, say: Say): Promise<void> {
  const { name, role } = options;
  if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(name)) {
    fail(
      "INVALID_FIELD",
      `--name ${JSON.stringify(name)} is no name: lower-case letters, digits and inner hyphens, at most 63`,
      { hint: "name it such as coppice-control token create --name admin --role admin" },
    );
  }
  const { openCatalog } = await import("./catalog/catalog.ts");
  const { issueToken } = await import("./access/issue-token.ts");
  const { writeAudit } = await import("./audit/audit.ts");
  await withDatabase(options, async (url, signal) => {
    await using catalog = await openCatalog({ url, signal });
    const issued = await catalog.transaction(async (tx) => {
      const roleName: RoleName = role === "admin" ? "ADMIN" : role === "operator" ? "OPERATOR" : "VIEWER";
      const token = await issueToken(tx, { name, role: roleName, expireTime: null });
      const call = {
        principal: "system",
        tokenId: null,
        action: "token create",
        request: { name, role },
        peerAddress: "",
      };
      await writeAudit(tx, call, { id: token.row.id, name });
      return token;
    });
    say(issued.value);
  });
}

/** Works on the catalog's database: the configured one, a running control plane's, or our own, started for it. */
async function withDatabase(
  options: ConfigOptions,
  work: (url: string, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const config: Config = loadConfig({ options, env: process.env });
  const { signal } = new AbortController();
  const running = config.databaseUrl ?? (await findRunningServer(config.dataDirectory));
  if (running !== undefined) {
    await work(running, signal);
    return;
  }
  await using database = await openDatabase(config, signal);
  await work(database.url, signal);
}
