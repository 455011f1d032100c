import { Failure, isFailure } from "@coppice/proto/kit/failure";
import type { Reason } from "@coppice/proto/kit/reasons";

const another = "do not use this backup; choose another with `coppice-agent ls`, and name it: --backup ID";
const password = "give the role's password by PGPASSWORD or in ~/.pgpass (mode 0600)";

/** What to do next where there is no control plane that could be asked. */
const hints: Partial<Record<Reason, string>> = {
  ARCHIVE_DIFFERS:
    "nothing was swapped; look into the backup with `coppice-agent verify ID --content`, then restore it with --as NAME to compare",
  BACKUP_INCOMPLETE: "choose a complete backup with `coppice-agent ls`, or name the databases that this one holds",
  BACKUP_NOT_FOUND: "list the backups with `coppice-agent ls`",
  CLUSTER_NOT_FOUND: "list the clusters with `coppice-agent ls`",
  CONTENT_UNREADABLE: another,
  DATABASE_NOT_FOUND: "list the server's databases with `psql --list`",
  DATABASE_NOT_IN_BACKUP: "list what it holds with `coppice-agent ls`",
  DIGEST_MISMATCH: another,
  HOST_KEY_UNTRUSTED:
    "compare the fingerprint with the one that `ssh-keygen -lf` prints on the server, then name the right key by --host-key",
  IDENTITY_MISSING: "give the identity file of one of the named recipients: --identity FILE",
  MANIFEST_MISSING: "list the backups with `coppice-agent ls`; one that was never finished has no manifest",
  MANIFEST_UNREADABLE: "look at the repository with `coppice-agent verify`",
  OBJECT_MISSING: another,
  OUTCOME_UNKNOWN: "run the same again: it sees what is in place and clears away what is not",
  PASSWORD_MISSING: password,
  PASSWORD_REFUSED: password,
  PROGRAM_FAILED: "read what the program said above",
  RECOVERY_TARGET_UNREACHABLE: "see what there is with `coppice-agent ls`",
  REPOSITORY_CREDENTIALS_REFUSED:
    "give the right keys: S3 by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or --profile, SSH by --identity-file",
  REPOSITORY_SETTINGS_REFUSED: "correct --repo, --endpoint, --region or --path-style",
  ROLE_MISSING: "make the roles of the backup first with --globals, or log in as another one with --user",
  TLS_REFUSED: "check PGSSLMODE and PGSSLROOTCERT, or name a service of libpq: --to service=NAME",
};

/** Whose own hints name no command, and yet speak of what a control plane does. */
const ofControlPlane: readonly string[] = ["IDENTITY_MISSING", "OUTCOME_UNKNOWN"] satisfies Reason[];
/** What this program has a command of its own for. */
const own = ["`coppice wal verify CLUSTER`", "`coppice-agent verify CLUSTER --repo … --wal`"] as const;
const command = /\bcoppice [a-z]/;

/** An error as who works with nothing but this program is told of it: what comes next can be done without a control plane. */
export function offlineFailure(error: unknown): unknown {
  if (!isFailure(error) || (!command.test(error.hint) && !ofControlPlane.includes(error.reason))) return error;
  const { reason, message, metadata, fields, operation, code } = error;
  const general = Object.entries(hints).find(([name]) => name === reason)?.[1];
  const again = error.hint.replace(/,? then `coppice repository check`/, ", then try again").replaceAll(...own);
  const isOwn = again.includes(own[1]) && !command.test(again);
  const hint = isOwn ? again : (general ?? (command.test(again) ? "see `coppice-agent --help`" : again));
  return new Failure(reason, message, { hint, metadata, fields, operation, code, cause: error });
}
