import { fail } from "@coppice/proto/kit/failure";
import { type Command, Option } from "commander";
import type { FetchOptions } from "./fetch.ts";
import { offlineFailure } from "./offline-failure.ts";
import type { DirectoryOptions } from "./data-directory/restore-directory.ts";
import type { PlaceOptions } from "./place/place.ts";
import type { RestoreOptions } from "./restore/restore.ts";
import type { VerifyOptions } from "./verify.ts";

type Output = "table" | "json";

function integer(most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d{1,10}$/.test(text) && value >= 1 && value <= most) return value;
    return fail("INVALID_FIELD", `${JSON.stringify(text)} is not a number from 1 to ${most}`);
  };
}

function withPlace(command: Command): Command {
  return command
    .requiredOption("--repo <url>", "/path, file:///path, s3://BUCKET/PREFIX or ssh://USER@SERVER:PORT/path")
    .option("--endpoint <url>", "S3: address of the server, https://HOST[:PORT] (Amazon's own)")
    .option("--region <region>", "S3: region (the configuration's, or us-east-1)")
    .addOption(new Option("--path-style", "S3: address the bucket by path (so it is with --endpoint)"))
    .addOption(new Option("--no-path-style", "S3: address the bucket by host name (so it is at Amazon)"))
    .option("--ca-file <file>", "S3: authorities (PEM) that the server's certificate is checked with")
    .option("--profile <name>", "S3: profile that keys come from; without it the environment (AWS_ACCESS_KEY_ID …)")
    .option("--host-key <key>", "SSH: public key of the server, TYPE BASE64 (may be repeated)", collect)
    .option("--known-hosts <file>", "SSH: where the server's keys are (~/.ssh/known_hosts)")
    .option("--identity-file <file>", "SSH: private key to log in with (~/.ssh/id_ed25519)");
}

function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value];
}

/** What is said of a failure has to help where there is no control plane. */
async function offline(work: Promise<number>): Promise<number> {
  try {
    return await work;
  } catch (error) {
    throw offlineFailure(error);
  }
}

const identityOption = () => new Option("--identity <file>", "age identity of a recipient, for encrypted backups");

/** Adds the commands that need a repository and no control plane; `end` gets their exit codes. */
export function addOfflineCommands(program: Command, signal: AbortSignal, end: (exitCode: number) => void): void {
  withPlace(program.command("ls"))
    .description("with no control plane: list the clusters and backups of a repository")
    .addOption(new Option("-o, --output <format>", "table or json").choices(["table", "json"]).default("table"))
    .addHelpText("after", "\nExample:\n  coppice-agent ls --repo s3://acme-backups/prod")
    .action(async (options: PlaceOptions & { readonly output: Output }) => {
      const { listRepository } = await import("./ls.ts");
      end(await offline(listRepository(options, signal)));
    });

  withPlace(program.command("verify"))
    .description("with no control plane: read every stored byte again and name what is wrong")
    .argument("[cluster|backup]", "only this one: a cluster's name or id, or a backup's id")
    .option("--content", "also decrypt, decompress and parse it")
    .option("--wal", "archived WAL too: every page, and the checksum of every record")
    .addOption(identityOption())
    .addHelpText(
      "after",
      "\nExample:\n  coppice-agent verify --repo /mnt/backups\n  coppice-agent verify shop --repo /mnt/backups --content --wal --identity kit.txt",
    )
    .action(async (only: string | undefined, options: Omit<VerifyOptions, "only">) => {
      const { verifyRepository } = await import("./verify.ts");
      end(await offline(verifyRepository({ ...options, only }, signal)));
    });

  withPlace(program.command("restore-directory"))
    .description("with no control plane: make a data directory as the cluster was at a point in time")
    .argument("<cluster>", "name or id of the cluster in the repository, see ls")
    .requiredOption("--into <folder>", "data directory to make; it has to be absent or empty")
    .option("--at <time>", 'as it was then, such as "2026-11-20 02:55 Europe/Berlin" or "2 hours ago"')
    .option("--lsn <lsn>", "up to this WAL position")
    .option("--xid <n>", "up to this transaction", integer(4_294_967_295))
    .option("--name <name>", "up to this restore point (pg_create_restore_point)")
    .option("--immediate", "no further than where the backup is consistent")
    .option("--latest", "up to the latest point there is, which is so without any of these")
    .option("--exclusive", "leave out what is exactly at the time, position or transaction")
    .option("--timeline <n>", "timeline to follow (the latest that grew out of the backup's)", integer(4_294_967_295))
    .option("--backup <id>", "backup (the newest that leads there)")
    .option("--start", "start the server, hand it its WAL, and wait until it has recovered")
    .option("--port <n>", "port that it is to listen on (its own)", integer(65_535))
    .option("--tablespace <oid=folder>", "another place of a tablespace (may be repeated)", collect)
    .option("--accept <warning>", "do it in spite of this warning of the plan (may be repeated)", collect)
    .option("--replace", "move what is in the folder aside; it is kept as FOLDER.before-TIME")
    .option("--keep-failed", "when it fails with everything unpacked, keep that: the same again goes on with it")
    .option("--plan", "say what would be done, and do nothing")
    .option("--yes", "replace without asking: for scripts")
    .addOption(identityOption())
    .addHelpText(
      "after",
      "\nExample:\n  coppice-agent restore-directory shop --repo /mnt/backups --into /var/lib/postgresql/17/restored --start --port 5433\n" +
        '  coppice-agent restore-directory shop --repo /mnt/backups --into /srv/pg --at "2026-11-21 14:03:07+01" --plan',
    )
    .action(async (cluster: string, options: Omit<DirectoryOptions, "cluster">) => {
      const { restoreDirectory } = await import("./data-directory/restore-directory.ts");
      end(await offline(restoreDirectory({ ...options, cluster }, signal)));
    });

  withPlace(program.command("restore"))
    .description("with no control plane: restore databases of a repository, compared before they are put into place")
    .argument("<cluster>", "name or id of the cluster in the repository, see ls")
    .requiredOption("--to <connection>", "server: folder of its socket[:PORT], HOST[:PORT], or libpq's 'service=NAME'")
    .option("--user <role>", "role to log in as (postgres); its password: PGPASSWORD or ~/.pgpass")
    .option("--backup <id>", "backup (the last good one)")
    .option("--database <name>", "only this database")
    .option("--as <name>", "name that it gets (the name it had)")
    .option("--replace", "swap it for the present database of that name, which is kept as NAME_before_TIME")
    .option("--globals", "make the roles and tablespaces that are missing, first")
    .option("--all", "everything: globals, then every database, into an empty cluster")
    .option("--jobs <n>", "jobs of pg_restore (1)", integer(64))
    .option("--plan", "say what would be done, and do nothing")
    .option("--yes", "replace without asking: for scripts")
    .addOption(identityOption())
    .addHelpText(
      "after",
      "\nExample:\n  coppice-agent restore shop --repo s3://acme-backups/prod --all --to /run/postgresql --plan\n" +
        "  coppice-agent restore shop --repo /mnt/backups --database orders --as orders-copy --to db8:5432",
    )
    .action(async (cluster: string, options: Omit<RestoreOptions, "cluster">) => {
      const { restoreFromRepository } = await import("./restore/restore.ts");
      end(await offline(restoreFromRepository({ ...options, cluster }, signal)));
    });

  withPlace(program.command("fetch"))
    .description("with no control plane: fetch a file of archived WAL, as a server's restore_command")
    .argument("<file>", "its name: %f")
    .argument("<destination>", "where it goes: %p")
    .requiredOption("--cluster <id>", "id of the cluster in the repository, see ls")
    .option("--system-identifier <number>", "the server's (of the data directory that it is run in)")
    .option("--end-lsn <lsn>", "where the archive ends for this server: nothing from there on is handed out")
    .option("--wait <seconds>", "how long to try while the repository is in trouble", integer(86_400), 300)
    .addOption(identityOption())
    .addHelpText(
      "after",
      "\nExample, in postgresql.conf:\n" +
        "  restore_command = 'coppice-agent fetch --repo /mnt/backups --cluster cls_01… %f %p'",
    )
    .action(async (file: string, destination: string, options: Omit<FetchOptions, "file" | "destination">) => {
      const { fetchFromRepository } = await import("./fetch.ts");
      end(await fetchFromRepository({ ...options, file, destination }, signal));
    });
}
