// The one table of what can go wrong; it is long because it is a list, and it is one thing because clients, hints and
// docs/errors.md must never disagree.

/** Names of the status codes of gRPC and Connect, as the Connect protocol spells them. */
export type StatusCode =
  | "canceled"
  | "unknown"
  | "invalid_argument"
  | "deadline_exceeded"
  | "not_found"
  | "already_exists"
  | "permission_denied"
  | "resource_exhausted"
  | "failed_precondition"
  | "aborted"
  | "out_of_range"
  | "unimplemented"
  | "internal"
  | "unavailable"
  | "data_loss"
  | "unauthenticated";

/** What is known about a reason: its code, the hint that is given when none more precise is known, one line of documentation. */
export interface ReasonInfo {
  readonly code: StatusCode;
  readonly hint: string;
  readonly doc: string;
  /** The same call may succeed later without anybody changing anything. */
  readonly retryable: boolean;
}

/** Every reason a failure of Coppice can carry, sorted; docs/errors.md is made from it by `npm run errors-doc`. */
// oxfmt-ignore
export const reasons = {
  AGENT_ANSWER_INVALID: { code: "internal", retryable: false, hint: "upgrade the agent on that host, then look at what it did before trying again", doc: "The agent's answer does not fit what it was asked for, so it does not count as done." },
  AGENT_CLONED: { code: "failed_precondition", retryable: true, hint: "remove the agent's data folder on the copied machine and enrol it as a host of its own", doc: "Another agent with the same certificate is connected: the machine was copied." },
  AGENT_LOST: { code: "unavailable", retryable: true, hint: "look at the agent with `coppice host get HOST`; an operation that has not ended is settled when it is back, one that has is to be started again", doc: "The connection to the agent ended while it was working." },
  AGENT_RUNNING: { code: "failed_precondition", retryable: false, hint: "stop the other agent, or give this one its own `--data-dir`", doc: "Another agent uses the same folder." },
  AGENT_STOPPED: { code: "unavailable", retryable: true, hint: "try again when the agent runs again", doc: "The agent was stopped while it worked on it." },
  ALREADY_ENROLLED: { code: "already_exists", retryable: false, hint: "use `--replace` to give up the present enrolment, or another `--data-dir`", doc: "The agent's folder holds an enrolment already." },
  ARCHIVE_COMMAND_FAILING: { code: "failed_precondition", retryable: true, hint: "see the server's log, and run its archive_command by hand as its user; curl, the folder of the socket and confinement of the service are what stands in the way most often", doc: "The server's archive_command fails before it comes to the agent, or is not run." },
  ARCHIVE_COMMAND_NOT_SET: { code: "failed_precondition", retryable: true, hint: "see what else sets archive_command on the server", doc: "archive_command was changed and the server goes on showing another one." },
  ARCHIVE_COMMAND_TAKEN: { code: "failed_precondition", retryable: false, hint: "end the other tool's archiving first, or archive with `--mode stream` beside it", doc: "The server archives by a command or a library of somebody else." },
  ARCHIVE_DIFFERS: { code: "data_loss", retryable: false, hint: "nothing was swapped; verify the backup with `coppice backup verify`, then restore it under another name to compare", doc: "The restored database lacks something that the archive lists." },
  ARCHIVE_MODE_OFF: { code: "failed_precondition", retryable: false, hint: "as a superuser: ALTER SYSTEM SET archive_mode = on; then restart the server", doc: "The server hands out no WAL by archive_command before archive_mode is on, which takes a restart." },
  ARCHIVE_UNREADABLE: { code: "data_loss", retryable: false, hint: "take the dump again, or name the file that pg_dump wrote", doc: "An archive of pg_dump is damaged, or none." },
  BACKUPS_UNKNOWN: { code: "failed_precondition", retryable: false, hint: "enter them with `coppice repository rebuild REPOSITORY`, and repeat it; one that was only just made is known by now", doc: "The repository holds backups that the catalog does not know, and that may need what was to be deleted." },
  BACKUP_CHAIN_BROKEN: { code: "failed_precondition", retryable: false, hint: "name the backups from the full one on, as `coppice backup list` shows them", doc: "The backups of a restore do not build on each other." },
  BACKUP_CHECKSUM_FAILED: { code: "data_loss", retryable: false, hint: "find the damaged relations with pg_amcheck and restore them from an older backup; `--accept-corrupt` takes the backup nevertheless", doc: "Pages of the cluster failed their checksums while it was backed up." },
  BACKUP_HAS_CHILDREN: { code: "failed_precondition", retryable: false, hint: "delete the incremental backups that build on it first, newest first", doc: "Incremental backups need the backup." },
  BACKUP_INCOMPLETE: { code: "failed_precondition", retryable: false, hint: "choose a complete backup with `coppice backup list`, or name the databases that this one holds", doc: "The backup misses databases that were asked for." },
  BACKUP_IN_USE: { code: "failed_precondition", retryable: true, hint: "wait for the operation that uses it, or cancel it", doc: "A running operation uses the backup." },
  BACKUP_NOT_FOUND: { code: "not_found", retryable: false, hint: "list the backups with `coppice backup list`", doc: "There is no such backup." },
  CANCELLED: { code: "canceled", retryable: false, hint: "start it again when you want it done", doc: "It was cancelled on request." },
  CAPABILITY_MISSING: { code: "failed_precondition", retryable: false, hint: "upgrade the agent on that host", doc: "The agent does not know this kind of command." },
  CATALOG_UNREACHABLE: { code: "unavailable", retryable: true, hint: "check that the catalog's PostgreSQL runs and accepts connections", doc: "The control plane cannot reach its catalog." },
  CERTIFICATE_REFUSED: { code: "unauthenticated", retryable: false, hint: "enrol the host again with `coppice host add`", doc: "The agent's certificate is unknown, expired or revoked." },
  CERTIFICATE_UNTRUSTED: { code: "unauthenticated", retryable: false, hint: "compare the fingerprint with the one that the control plane prints, then log in or enrol again", doc: "The server's certificate does not belong to the expected authority." },
  CLUSTER_AMBIGUOUS: { code: "failed_precondition", retryable: false, hint: "say where it listens with `--endpoint`", doc: "Several clusters, or none, answer the description." },
  CLUSTER_CHANGED: { code: "failed_precondition", retryable: false, hint: "see which server runs at that address; if it was replaced on purpose, add it as a new cluster with `coppice cluster add`", doc: "Another PostgreSQL cluster answers at the address than before." },
  CLUSTER_IN_USE: { code: "failed_precondition", retryable: false, hint: "delete its backups first, and wait for its running operations or cancel them", doc: "The cluster still has backups in the catalog or running operations." },
  CLUSTER_NOT_CHECKED: { code: "failed_precondition", retryable: false, hint: "check it first: `coppice cluster check CLUSTER`", doc: "Nobody has looked at the cluster yet, so its version and system identifier are not known." },
  CLUSTER_NOT_FOUND: { code: "not_found", retryable: false, hint: "list the clusters with `coppice cluster list`", doc: "There is no such cluster." },
  CLUSTER_READ_ONLY: { code: "failed_precondition", retryable: false, hint: "use the primary", doc: "The PostgreSQL cluster is a standby, and the work has to write." },
  CLUSTER_UNREACHABLE: { code: "unavailable", retryable: true, hint: "see that PostgreSQL runs and accepts connections at that address from the agent's host", doc: "The agent cannot connect to the PostgreSQL cluster, or waits for an answer of it in vain." },
  CLUSTER_WITHOUT_SERVER: { code: "failed_precondition", retryable: false, hint: "name its server with `coppice cluster add NAME --host HOST`, or restore into another cluster with `--to`", doc: "The cluster is known from its backups in a repository, and no server of it is registered." },
  CONFIGURATION_INVALID: { code: "invalid_argument", retryable: false, hint: "mend the named settings and start again", doc: "A setting of the program is missing or wrong." },
  CONFIRMATION_NEEDED: { code: "invalid_argument", retryable: false, hint: "repeat it with `--yes` after reading what it would do", doc: "The request destroys something and was not confirmed." },
  CONNECTION_SERVICE_INVALID: { code: "failed_precondition", retryable: false, hint: "mend the service in the host's pg_service.conf, or give host and port", doc: "The connection service file lacks the service or holds what cannot be used." },
  CONTENT_UNREADABLE: { code: "data_loss", retryable: false, hint: "do not use this backup; take another with `coppice backup create`", doc: "Stored bytes are what was written, and cannot be decrypted, decompressed or parsed." },
  CONTEXT_NOT_FOUND: { code: "not_found", retryable: false, hint: "list the contexts with `coppice context list`, or log in with `coppice login`", doc: "The command line has no such context." },
  CONTROL_PLANE_UNREACHABLE: { code: "unavailable", retryable: true, hint: "check the address with `coppice context list` and that the control plane runs", doc: "The control plane does not answer." },
  DATABASE_EXISTS: { code: "already_exists", retryable: false, hint: "choose another name with `--as`, or swap the present one out with `--replace`", doc: "A database of that name exists already." },
  DATABASE_IN_USE: { code: "failed_precondition", retryable: false, hint: "end its prepared transactions and replication slots, or restore under another name", doc: "The database cannot be replaced while something holds it." },
  DATABASE_NOT_FOUND: { code: "not_found", retryable: false, hint: "list the databases with `coppice cluster get CLUSTER`", doc: "There is no such database in the cluster." },
  DATABASE_NOT_IN_BACKUP: { code: "not_found", retryable: false, hint: "list what it holds with `coppice backup get BACKUP`", doc: "The backup does not hold that database." },
  DATA_FOLDER_UNUSABLE: { code: "failed_precondition", retryable: false, hint: "let the agent's user read and write its folder", doc: "The agent cannot use its own folder." },
  DEADLINE_EXCEEDED: { code: "deadline_exceeded", retryable: true, hint: "try again, or allow more time", doc: "It took longer than was allowed." },
  DIGEST_MISMATCH: { code: "data_loss", retryable: false, hint: "do not use this backup; take another with `coppice backup create`", doc: "Stored bytes are not the bytes that were written." },
  DIRECTORY_NOT_EMPTY: { code: "failed_precondition", retryable: false, hint: "name an empty folder, or have what is there moved aside with --replace", doc: "The folder that a cluster is to be restored into is not empty." },
  ETAG_MISMATCH: { code: "aborted", retryable: true, hint: "read it again and repeat the change", doc: "The resource changed after it was read." },
  EXTENSION_MISSING: { code: "failed_precondition", retryable: false, hint: "install the extensions' packages on the server's host", doc: "The server does not have extensions that the database needs." },
  FEATURE_UNKNOWN: { code: "failed_precondition", retryable: false, hint: "use a newer Coppice to read it", doc: "The backup needs a feature that this version does not know." },
  FILE_EXISTS: { code: "already_exists", retryable: false, hint: "name another file, or move the one that is there away", doc: "A file that was to be made is there already." },
  FILE_NOT_WRITABLE: { code: "failed_precondition", retryable: false, hint: "name a folder on that host that the agent may write into", doc: "The agent cannot make a file where it was to be." },
  FILE_UNREADABLE: { code: "failed_precondition", retryable: false, hint: "name a dump of pg_dump or pg_dumpall, plain or in zstd, gzip or age, that the agent's user may read", doc: "The agent cannot use the file as a dump." },
  GLOBALS_UNREADABLE: { code: "data_loss", retryable: false, hint: "restore the roles by hand from the backup's globals, see its RECOVER.txt", doc: "The roles and tablespaces of a backup cannot be read." },
  HOST_ENROLLED: { code: "already_exists", retryable: false, hint: "stop that agent first when another one is to take its place, or choose another name", doc: "An agent of that name is enrolled and connected." },
  HOST_IN_USE: { code: "failed_precondition", retryable: false, hint: "remove its clusters and repositories first; a host that is lost for good keeps them and loses its access by `coppice host revoke`", doc: "Clusters, repositories or running operations still belong to the host." },
  HOST_KEY_UNTRUSTED: { code: "unauthenticated", retryable: false, hint: "compare the fingerprint with the one that `ssh-keygen -lf` prints on the server, then pin the right key with `coppice repository update`", doc: "The SSH server does not prove a key that is pinned for the repository." },
  HOST_MAY_NOT_DECRYPT: { code: "failed_precondition", retryable: false, hint: "allow it with `coppice host update HOST --label may-decrypt=true`, or use a host that may", doc: "The work has to decrypt, and the host is not trusted with identities." },
  HOST_NOT_FOUND: { code: "not_found", retryable: false, hint: "list the hosts with `coppice host list`", doc: "There is no such host." },
  HOST_REVOKED: { code: "failed_precondition", retryable: false, hint: "enrol a machine under the host's name with `coppice host add`, then ask for it again", doc: "The certificate of the host's agent was revoked before the work was done." },
  IDENTITY_MISSING: { code: "failed_precondition", retryable: false, hint: "run it on a host that may decrypt, or give the identity file of one of the named recipients with `--identity`", doc: "The backup is encrypted, and no identity was given to decrypt it." },
  IDENTITY_WRONG: { code: "failed_precondition", retryable: false, hint: "give the identity file of one of the named recipients", doc: "The identity does not belong to any recipient the backup is encrypted to." },
  INCREMENTAL_REFUSED: { code: "failed_precondition", retryable: false, hint: "take a full backup; incremental ones need `ALTER SYSTEM SET summarize_wal = on` (then `SELECT pg_reload_conf()`) before their parent is taken", doc: "The server cannot take an incremental backup against that parent." },
  INSTANCE_EXISTS: { code: "already_exists", retryable: false, hint: "see the servers of the cluster with `coppice cluster get NAME`", doc: "The cluster has that server already." },
  INSTANCE_NOT_FOUND: { code: "not_found", retryable: false, hint: "see the servers of the cluster with `coppice cluster get NAME`", doc: "The cluster has no such server, or none that is known to be what was asked for." },
  INSTANCE_ROLE_CHANGED: { code: "failed_precondition", retryable: true, hint: "try again: what the server is now is known by now", doc: "A backup was to be taken of a primary or of a standby, and the server is not that any more." },
  INTERNAL: { code: "internal", retryable: false, hint: "give the reference to whoever runs Coppice: the log of the agent or of the control plane has the details", doc: "Something unexpected happened; the details are in the log under the reference." },
  INVALID_FIELD: { code: "invalid_argument", retryable: false, hint: "mend the named fields", doc: "A field of the request is missing or wrong." },
  JOURNAL_DAMAGED: { code: "data_loss", retryable: false, hint: "move the named file away and start again; what was under way is settled by looking", doc: "The agent's journal cannot be read." },
  LAST_ADMIN_TOKEN: { code: "failed_precondition", retryable: false, hint: "make another admin token first", doc: "Without this token nobody could administer the control plane." },
  LAST_GOOD_BACKUP: { code: "failed_precondition", retryable: false, hint: "take a new backup first, or repeat it with `--last`", doc: "The backup is the last good one, the newest, of its cluster." },
  LOCALE_MISSING: { code: "failed_precondition", retryable: false, hint: "install the locale on the server's host (`locale-gen`), or restore into a cluster that has it", doc: "The server does not have the locale of the database." },
  LOGIN_REFUSED: { code: "failed_precondition", retryable: false, hint: "let the role in by a line in pg_hba.conf (for peer also pg_ident.conf), reload, and try again", doc: "pg_hba.conf does not let this role in from this place." },
  MANIFEST_MISSING: { code: "not_found", retryable: false, hint: "list the backups with `coppice backup list`; one that was never finished has no manifest", doc: "The repository holds no finished backup at that place." },
  MANIFEST_UNREADABLE: { code: "data_loss", retryable: false, hint: "check the repository with `coppice repository check`", doc: "The manifest of a backup cannot be read." },
  MESSAGE_TOO_LARGE: { code: "resource_exhausted", retryable: false, hint: "send less in one request", doc: "The request is larger than is accepted." },
  METHOD_UNKNOWN: { code: "unimplemented", retryable: false, hint: "upgrade the control plane, or use a client of its version", doc: "The server does not know this call." },
  NAME_TAKEN: { code: "already_exists", retryable: false, hint: "choose another name, or look at the one that is there with `get`", doc: "Another resource of the kind has that name." },
  NOTHING_TO_DECIDE: { code: "failed_precondition", retryable: false, hint: "look at what the restore has left: `coppice operation get OPERATION`", doc: "The operation has left no database beside that could be swapped in or dropped, or that was decided already." },
  NOT_ENROLLED: { code: "failed_precondition", retryable: false, hint: "run `coppice host add NAME` and paste its line on this host", doc: "The agent has no enrolment." },
  NOT_SUPPORTED: { code: "unimplemented", retryable: false, hint: "ask for something that this version can do", doc: "This version of Coppice cannot do that yet." },
  OBJECT_ARCHIVED: { code: "failed_precondition", retryable: false, hint: "have the object thawed (restored) in its storage, then try again", doc: "The object lies in a storage class that cannot be read without thawing." },
  OBJECT_CLASHES: { code: "already_exists", retryable: false, hint: "restore into another database, or drop or rename what is there", doc: "The database has objects of the names already that would be restored into it." },
  OBJECT_EXISTS: { code: "already_exists", retryable: false, hint: "check whether another operation writes the same backup", doc: "An object of that key is in the repository already." },
  OBJECT_KEY_REFUSED: { code: "invalid_argument", retryable: false, hint: "look at the named path in the repository: Coppice makes no such keys and no symbolic links", doc: "A key leads out of the repository or cannot be stored in it." },
  OBJECT_MISSING: { code: "data_loss", retryable: false, hint: "do not use this backup; take another with `coppice backup create`", doc: "An object that the manifest names is not in the repository." },
  OPERATION_ABANDONED: { code: "unknown", retryable: false, hint: "look for what the operation lists as left behind before asking for it again", doc: "It was given up while nobody knew how it had ended; what it has done was not looked at." },
  OPERATION_CONFLICT: { code: "failed_precondition", retryable: true, hint: "wait for the other operation, or cancel it: `coppice operation list`", doc: "Another operation that has not ended does the same thing to the same place." },
  OPERATION_NOT_CANCELLABLE: { code: "failed_precondition", retryable: false, hint: "look at it with `coppice operation get`", doc: "The operation has ended or can no longer be stopped." },
  OPERATION_NOT_FOUND: { code: "not_found", retryable: false, hint: "list the operations with `coppice operation list`", doc: "There is no such operation." },
  OPERATION_NOT_INDETERMINATE: { code: "failed_precondition", retryable: false, hint: "end what is queued or runs with `coppice operation cancel`; when its host is lost for good, `coppice host revoke` first", doc: "Only an operation whose outcome is unknown can be resolved by hand." },
  OS_USER_NOT_FOUND: { code: "failed_precondition", retryable: false, hint: "create the user on that host, or name another", doc: "The host has no such user." },
  OS_USER_NOT_USABLE: { code: "failed_precondition", retryable: false, hint: "run the agent as that user or as root", doc: "The agent may not run programs as that user." },
  OUTCOME_UNKNOWN: { code: "unknown", retryable: false, hint: "wait: it is settled by looking at what is there when the agent is back", doc: "Nobody can say yet whether it was done." },
  PASSWORD_MISSING: { code: "failed_precondition", retryable: false, hint: "give a password, and the role with it, with `coppice cluster update CLUSTER --instance HOST --user ROLE --password-stdin`, or put it into the .pgpass (mode 0600) of the agent's user", doc: "PostgreSQL asks for a password and none is known." },
  PASSWORD_REFUSED: { code: "failed_precondition", retryable: false, hint: "give the right password, or another role with its own, with `coppice cluster update CLUSTER --instance HOST --user ROLE --password-stdin`, or put it into the host's .pgpass", doc: "PostgreSQL refused the login." },
  PERMISSION_DENIED: { code: "permission_denied", retryable: false, hint: "use a token with the needed role", doc: "The token's role does not allow this." },
  PORT_IN_USE: { code: "failed_precondition", retryable: false, hint: "name another port with --port", doc: "The port that a restored server is to listen on is taken." },
  POSTGRES_REFUSED: { code: "failed_precondition", retryable: false, hint: "look into the server's log", doc: "PostgreSQL refused a statement of the agent." },
  PRIVILEGE_MISSING: { code: "failed_precondition", retryable: false, hint: "grant the named privilege to the role that the agent uses", doc: "A privilege in PostgreSQL is missing." },
  PROGRAM_FAILED: { code: "failed_precondition", retryable: false, hint: "read the operation's log with `coppice operation logs`", doc: "A program that the agent ran ended with an error." },
  PROGRAM_MISSING: { code: "failed_precondition", retryable: false, hint: "install the named program on that host", doc: "A program that the agent needs is not on the host." },
  RATE_LIMITED: { code: "resource_exhausted", retryable: true, hint: "wait a moment and try again", doc: "Too many requests at once." },
  RECOVERY_NOT_AS_ASKED: { code: "failed_precondition", retryable: false, hint: "look at `coppice restore plan` with the same flags, then name the timeline with `--timeline`, or accept it with `--accept`", doc: "Recovery would end elsewhere than the point suggests: before WAL that is archived, or on another timeline." },
  RECOVERY_NOT_PROVED: { code: "failed_precondition", retryable: false, hint: "ask for a new probe, decrypt it with `age -d -i IDENTITY`, and give what it holds", doc: "Nobody has shown that the recovery identity is at hand, so nothing is encrypted to it." },
  RECOVERY_TARGET_UNREACHABLE: { code: "failed_precondition", retryable: false, hint: "choose one of the points that can be reached, see `coppice cluster get CLUSTER`", doc: "Nothing that is stored leads to that point in time." },
  REPLICATION_REFUSED: { code: "failed_precondition", retryable: false, hint: "give the role REPLICATION and a line for the database `replication` in pg_hba.conf", doc: "The server does not let the role open replication connections." },
  REPOSITORY_AMBIGUOUS: { code: "invalid_argument", retryable: false, hint: "name one of them with `--to`", doc: "Several repositories, or none, could be meant." },
  REPOSITORY_CLOCK_SKEWED: { code: "failed_precondition", retryable: false, hint: "set the clock of that host by NTP", doc: "The clocks of the host and of the repository's server are too far apart for signed requests." },
  REPOSITORY_CREDENTIALS_REFUSED: { code: "failed_precondition", retryable: false, hint: "give the right credentials with `coppice repository update`, then `coppice repository check`", doc: "The repository's server does not accept the credentials, or there are none." },
  REPOSITORY_EXISTS: { code: "already_exists", retryable: false, hint: "use the repository that is there: `coppice repository list`", doc: "A repository at that place is registered already." },
  REPOSITORY_FULL: { code: "resource_exhausted", retryable: true, hint: "make room in the repository or delete backups that are not needed", doc: "The repository has no room left." },
  REPOSITORY_IN_USE: { code: "failed_precondition", retryable: false, hint: "delete its backups or wait for the operations that use it", doc: "Backups or running operations still need the repository." },
  REPOSITORY_IO_ERROR: { code: "unavailable", retryable: true, hint: "look at the disk and the kernel's log of that host", doc: "The storage under the repository reported an error." },
  REPOSITORY_NOT_FOUND: { code: "not_found", retryable: false, hint: "list the repositories with `coppice repository list`", doc: "There is no such repository." },
  REPOSITORY_NOT_READABLE: { code: "failed_precondition", retryable: false, hint: "let the agent's user read the folder, and try again", doc: "The agent may not read the repository." },
  REPOSITORY_NOT_WRITABLE: { code: "failed_precondition", retryable: false, hint: "let the agent's user write the folder, and try again", doc: "The agent may not write the repository." },
  REPOSITORY_SETTINGS_REFUSED: { code: "failed_precondition", retryable: false, hint: "correct the repository's location with `coppice repository update`, then `coppice repository check`", doc: "The repository's server does not do what the location asks of it: region, encryption, storage class." },
  REPOSITORY_UNREACHABLE: { code: "unavailable", retryable: true, hint: "see that the folder exists and is mounted, and try again", doc: "The repository is not there." },
  REPOSITORY_WRONG_HOST: { code: "failed_precondition", retryable: false, hint: "copy the backup to that host, or use a repository that both hosts reach", doc: "The repository is a folder of another host." },
  REQUEST_ID_REUSED: { code: "already_exists", retryable: false, hint: "use a new request id for a new request", doc: "The request id belongs to another request." },
  RESTORE_RUNNING: { code: "failed_precondition", retryable: false, hint: "wait until that one has ended, or end it; then look at what is there", doc: "Another restore into the same folder is at work." },
  RESULT_TOO_LARGE: { code: "resource_exhausted", retryable: false, hint: "what the command did stays done: look at the operation's log and at what is there; report it with the numbers given here", doc: "The result of a command is larger than the control plane takes, so it was dropped; what the command did stays." },
  ROLE_MISSING: { code: "failed_precondition", retryable: false, hint: "create the named roles first; `coppice backup recipe BACKUP` shows how to get them out of the backup", doc: "A role that is needed does not exist in the cluster." },
  SCHEMA_TOO_NEW: { code: "failed_precondition", retryable: false, hint: "start the version that made the catalog, or a newer one", doc: "The catalog was made by a newer Coppice." },
  SCRIPT_REFUSED: { code: "failed_precondition", retryable: false, hint: "restore a dump that pg_dump or pg_dumpall wrote and nobody changed", doc: "The SQL script holds what no dump of one database holds." },
  SCRIPT_TRUNCATED: { code: "data_loss", retryable: false, hint: "take the dump again, or fetch it again: it is cut off, or pg_dump failed", doc: "The SQL script does not come to the end that pg_dump writes." },
  SCRIPT_UNREADABLE: { code: "data_loss", retryable: false, hint: "name a file as pg_dump or pg_dumpall wrote it, whole and unchanged", doc: "The SQL script cannot be cut into statements for certain." },
  SECRET_UNREADABLE: { code: "failed_precondition", retryable: false, hint: "start the control plane with the master key that sealed it", doc: "A sealed secret cannot be opened." },
  SELECTION_REFUSED: { code: "failed_precondition", retryable: false, hint: "list what the backup holds, and select what belongs together", doc: "What was selected cannot be restored like that." },
  SENDERS_EXHAUSTED: { code: "resource_exhausted", retryable: true, hint: "raise max_wal_senders and restart the server, or end a replication connection that is not needed", doc: "The server has no free WAL sender." },
  SERVER_COMPRESSION_MISSING: { code: "failed_precondition", retryable: false, hint: "let the agent compress, or use a server that was built with the codec", doc: "The server cannot compress backups by that codec." },
  SERVER_NOT_STARTED: { code: "failed_precondition", retryable: false, hint: "read what the server said, mend it, and restore again", doc: "A restored server did not start, or ended before it had recovered." },
  SERVER_RUNNING: { code: "failed_precondition", retryable: false, hint: "stop that server, or name another folder", doc: "A server runs in the data directory." },
  SERVER_UNSUPPORTED: { code: "failed_precondition", retryable: false, hint: "use PostgreSQL 15 or newer, and restore into the major version of the backup or a newer one", doc: "The server's major version is too old for this." },
  SLOTS_EXHAUSTED: { code: "resource_exhausted", retryable: false, hint: "drop a slot that nobody needs, or raise max_replication_slots and restart the server", doc: "The server has no free replication slot." },
  SLOT_EXISTS: { code: "already_exists", retryable: false, hint: "use the slot that is there, or drop it with pg_drop_replication_slot", doc: "The server has a replication slot of that name already." },
  SLOT_INVALIDATED: { code: "failed_precondition", retryable: false, hint: "the slot is made anew by itself; where WAL is gone by then, take a full backup at once; raise max_slot_wal_keep_size, and from 18 on set idle_replication_slot_timeout to 0, so that a slot lasts longer", doc: "The server gave up the replication slot and the WAL that it kept." },
  SLOT_IN_USE: { code: "failed_precondition", retryable: true, hint: "find who uses it in pg_replication_slots, and end that connection if it is not needed", doc: "Another connection uses the replication slot." },
  SLOT_MISSING: { code: "not_found", retryable: false, hint: "make it with pg_create_physical_replication_slot; WAL that is gone by then is a gap", doc: "The server has no such replication slot." },
  SPACE_MISSING: { code: "resource_exhausted", retryable: true, hint: "make room on that host and try again", doc: "There is too little room on the host." },
  STALE_FENCE: { code: "aborted", retryable: false, hint: "nothing to do: a newer attempt has taken over", doc: "The report belongs to an attempt that is no longer the current one." },
  STANDBY_LACKS_ROWS: { code: "failed_precondition", retryable: false, hint: "dump the primary with `--instance primary`, or leave the rows of unlogged tables out with `--exclude-table-data`", doc: "Unlogged tables and sequences are empty on a standby, and were to be dumped of one." },
  STORAGE_CREDENTIAL_REFUSED: { code: "failed_precondition", retryable: false, hint: "let the key in on the server, or seal another one for the repository", doc: "The repository's server does not accept the credential." },
  STORAGE_CREDENTIAL_UNUSABLE: { code: "failed_precondition", retryable: false, hint: "seal a key for the repository, or give the agent's user one without a passphrase", doc: "The credential of the repository cannot be read or used by the agent." },
  TABLESPACE_FOLDER_MISSING: { code: "failed_precondition", retryable: false, hint: "make the folders, empty and owned by the server's user, or leave tablespaces out", doc: "Folders that tablespaces need are not on the server's host." },
  TABLESPACE_NOT_IN_BACKUP: { code: "failed_precondition", retryable: false, hint: "recover to the LSN before it, or begin with a backup that was taken after the tablespace was made", doc: "The WAL that a restore has to replay makes a tablespace in a folder that is in use, or not there, on that host, or one of the backup again where it was and not where it is to go." },
  TABLE_MISSING: { code: "failed_precondition", retryable: false, hint: "restore definitions too, or create the tables first", doc: "The database has no tables for the rows." },
  TIMELINE_CHANGED: { code: "aborted", retryable: true, hint: "take the backup again, of the server that is the primary now or of a standby that follows it", doc: "The server went over to another timeline while it was backed up." },
  TIMELINE_HISTORY_INVALID: { code: "data_loss", retryable: false, hint: "compare the history file with those in pg_wal of the server; a restore along that timeline is not possible without it", doc: "A timeline's history file is not as PostgreSQL writes them." },
  TLS_REFUSED: { code: "failed_precondition", retryable: false, hint: "check the sslmode and the root certificate of the cluster with `coppice cluster get`", doc: "No TLS connection to PostgreSQL that satisfies the sslmode came about." },
  TOKEN_EXPIRED: { code: "unauthenticated", retryable: false, hint: "ask for a new token", doc: "The token's time is over." },
  TOKEN_MALFORMED: { code: "invalid_argument", retryable: false, hint: "paste the whole line that `coppice host add` printed", doc: "The text is not an enrolment token." },
  TOKEN_NOT_FOUND: { code: "not_found", retryable: false, hint: "list the tokens with `coppice token list`", doc: "There is no such token." },
  TOKEN_SHOWN: { code: "failed_precondition", retryable: false, hint: "ask for a new one with another request id, as `coppice host add` does; the earlier one then counts no more", doc: "The request came before with its request id, and the enrolment token of its answer cannot be shown twice." },
  TOKEN_UNKNOWN: { code: "unauthenticated", retryable: false, hint: "ask for a new one with `coppice host add`", doc: "The control plane has made no such enrolment token." },
  TOKEN_USED: { code: "unauthenticated", retryable: false, hint: "ask for a new one with `coppice host add`", doc: "The enrolment token was used already." },
  TOKEN_WRONG_HOST: { code: "unauthenticated", retryable: false, hint: "use the token that was made for this host", doc: "The enrolment token was made for another host." },
  TOOLS_MISSING: { code: "failed_precondition", retryable: false, hint: "install PostgreSQL's client programs of the server's major version on that host", doc: "PostgreSQL's client programs are not on the host." },
  TOOLS_TOO_OLD: { code: "failed_precondition", retryable: false, hint: "install PostgreSQL's client programs of the server's major version on that host", doc: "PostgreSQL's client programs are older than the server." },
  UNAUTHENTICATED: { code: "unauthenticated", retryable: false, hint: "log in with `coppice login`", doc: "The request carries no valid token." },
  WAL_CONFLICT: { code: "data_loss", retryable: false, hint: "see which servers archive under this cluster: a clone or a promoted twin has to get its own cluster; nothing was overwritten", doc: "The archive holds other bytes under the name of this WAL file." },
  WAL_FILE_UNREADABLE: { code: "failed_precondition", retryable: false, hint: "run the agent as the server's user, or as root", doc: "The agent may not read a file of the server's pg_wal." },
  WAL_FOREIGN: { code: "failed_precondition", retryable: false, hint: "see which server this is: WAL is archived for the one server that it was set up for", doc: "WAL is of another server, timeline or position than its name says." },
  WAL_IN_USE: { code: "failed_precondition", retryable: true, hint: "wait for the operation, or cancel it: `coppice operation list`", doc: "An operation that has not ended may need the archived WAL." },
  WAL_MISSING: { code: "failed_precondition", retryable: false, hint: "name the repository that holds the WAL, or use a backup with its WAL in it", doc: "WAL that is needed is not there." },
  WAL_NOT_ARCHIVED: { code: "failed_precondition", retryable: false, hint: "archive it with `coppice wal setup CLUSTER`, or put it into the backup itself: `--wal embedded`", doc: "WAL of the cluster is not archived, and a physical backup needs it." },
  WAL_NOT_GRANTED: { code: "failed_precondition", retryable: false, hint: "see who owns the WAL: `coppice wal status CLUSTER`; nothing was written", doc: "The agent may not write WAL of this server, or of this timeline of it: another one owns it, or the server is on an older timeline." },
  WAL_NOT_READY: { code: "unavailable", retryable: true, hint: "wait: the server offers it again by itself", doc: "The agent takes no WAL from archive_command yet." },
  WAL_OWNER_NOT_AWAITED: { code: "failed_precondition", retryable: false, hint: "see who owns the WAL, and what is waited for: `coppice wal status CLUSTER`", doc: "The acknowledgement of that host's agent is not waited for: it does not own the WAL, or the WAL does not move." },
  WAL_REMOVED: { code: "data_loss", retryable: false, hint: "take a full backup at once: from it on every time can be reached again; raise max_slot_wal_keep_size so that the slot keeps WAL for longer", doc: "The server no longer has the WAL that was asked for." },
} as const satisfies Record<string, ReasonInfo>;

/** A reason out of the table. */
export type Reason = keyof typeof reasons;

/** What the table says of a reason; undefined for one that a newer peer sent. */
export function reasonInfo(reason: string): ReasonInfo | undefined {
  return Object.hasOwn(reasons, reason) ? reasons[reason as Reason] : undefined;
}
