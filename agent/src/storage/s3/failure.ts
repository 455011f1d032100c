import { Failure, type FailureOptions } from "@coppice/proto/kit/failure";
import type { Reason } from "@coppice/proto/kit/reasons";
import { type ErrorFacts, errorFacts } from "./error-facts.ts";

/** What was being done when the server refused. */
export interface Attempted {
  readonly doing: "write" | "read" | "list" | "delete";
  /** The right it takes, as policies spell it: s3:PutObject. */
  readonly action: string;
  /** Address of the repository. */
  readonly name: string;
  readonly key: string;
  /** Now, by this host's clock. */
  readonly now: Date;
  /** Whether the server has accepted the same key for this purpose before. */
  readonly wasAccepted: boolean;
  /** How far the server's clock is ahead, in milliseconds, where it was heard. */
  readonly serverAheadMs: number | undefined;
}

const reasonByCode: Readonly<Record<string, Reason>> = {
  AccountProblem: "REPOSITORY_CREDENTIALS_REFUSED",
  AllAccessDisabled: "REPOSITORY_CREDENTIALS_REFUSED",
  AuthorizationHeaderMalformed: "REPOSITORY_SETTINGS_REFUSED",
  CredentialsProviderError: "REPOSITORY_CREDENTIALS_REFUSED",
  EntityTooLarge: "REPOSITORY_FULL",
  ExpiredToken: "REPOSITORY_CREDENTIALS_REFUSED",
  IllegalLocationConstraintException: "REPOSITORY_SETTINGS_REFUSED",
  InvalidAccessKeyId: "REPOSITORY_CREDENTIALS_REFUSED",
  InvalidArgument: "REPOSITORY_SETTINGS_REFUSED",
  InvalidBucketName: "REPOSITORY_SETTINGS_REFUSED",
  InvalidObjectState: "OBJECT_ARCHIVED",
  InvalidRequest: "REPOSITORY_SETTINGS_REFUSED",
  InvalidStorageClass: "REPOSITORY_SETTINGS_REFUSED",
  InvalidToken: "REPOSITORY_CREDENTIALS_REFUSED",
  KeyTooLongError: "OBJECT_KEY_REFUSED",
  NoSuchBucket: "REPOSITORY_UNREACHABLE",
  NoSuchKey: "OBJECT_MISSING",
  NotImplemented: "REPOSITORY_SETTINGS_REFUSED",
  PermanentRedirect: "REPOSITORY_SETTINGS_REFUSED",
  QuotaExceeded: "REPOSITORY_FULL",
  RequestTimeTooSkewed: "REPOSITORY_CLOCK_SKEWED",
  ServerSideEncryptionConfigurationNotFoundError: "REPOSITORY_SETTINGS_REFUSED",
  SignatureDoesNotMatch: "REPOSITORY_CREDENTIALS_REFUSED",
  TemporaryRedirect: "REPOSITORY_SETTINGS_REFUSED",
  UserSuspended: "REPOSITORY_CREDENTIALS_REFUSED",
  XMinioStorageFull: "REPOSITORY_FULL",
};

/** What a refusal by its code says, and what mends it; a 403 is not always a wrong key. */
const refusals: Readonly<Record<string, { readonly about: string; readonly hint: string }>> = {
  ExpiredToken: {
    about: "the session of this key is over",
    hint: "give new credentials with `coppice repository update`, or those of a host's role, which renew themselves",
  },
  InvalidAccessKeyId: {
    about: "the server knows no such access key",
    hint: "give the right key with `coppice repository update`; a server that does not reach its own storage says this, too",
  },
  QuotaExceeded: {
    about: "the quota of the user or the bucket is used up",
    hint: "raise the quota of the user or bucket, or delete backups that are not needed",
  },
  SignatureDoesNotMatch: {
    about: "the secret is not that of the access key, or a proxy changes what was signed",
    hint: "give the right secret with `coppice repository update`; a proxy has to leave host name and path as they are",
  },
  UserSuspended: {
    about: "the user of this key is suspended",
    hint: "have the user enabled again on the server, or give the key of another one with `coppice repository update`",
  },
};

/** The failure that an error of a request stands for; one that is no error of a request is given back as it is. */
export function s3Failure(error: unknown, attempted: Attempted): unknown {
  if (error instanceof Failure) return error;
  const facts = errorFacts(error);
  if (!facts) return error;
  const { doing, name, key, action } = attempted;
  const { code, status } = facts;
  const reason = reasonOf(facts, attempted);
  const said = [code, status === undefined ? "" : `HTTP ${status}`].filter((word) => word !== "").join(", ");
  const about = aboutOf(facts, attempted);
  const options: FailureOptions = {
    metadata: { code, key, action, ...(status === undefined ? {} : { status: String(status) }) },
    hint: hintOf(facts, attempted),
    cause: error,
  };
  const thing = key === "" ? "it" : key;
  return new Failure(reason, `repository ${name}: cannot ${doing} ${thing}: ${about}${said}`, options);
}

function reasonOf({ code, status }: ErrorFacts, { doing }: Attempted): Reason {
  const known = reasonByCode[code];
  if (known) return known;
  if (isOfTls(code)) return "REPOSITORY_UNREACHABLE";
  const changes = doing === "write" || doing === "delete";
  if (status === 403 || status === 401) return changes ? "REPOSITORY_NOT_WRITABLE" : "REPOSITORY_NOT_READABLE";
  if (status === 404) return "OBJECT_MISSING";
  if (status === 301 || status === 307) return "REPOSITORY_SETTINGS_REFUSED";
  if (status === 507) return "REPOSITORY_FULL";
  // What was turned away for a while, not answered at all, or is not known.
  return status === undefined || status >= 500 || status === 429 || status === 408
    ? "REPOSITORY_UNREACHABLE"
    : "REPOSITORY_IO_ERROR";
}

function aboutOf({ code, status, region }: ErrorFacts, attempted: Attempted): string {
  const { action, now, serverAheadMs, wasAccepted } = attempted;
  if (code === "InvalidAccessKeyId" && wasAccepted)
    return "the server took this access key before and knows it no more: ";
  const refusal = refusals[code];
  if (refusal) return `${refusal.about}: `;
  if (code === "RequestTimeTooSkewed") {
    const theirs = serverAheadMs === undefined ? "unknown" : new Date(now.getTime() + serverAheadMs).toISOString();
    return `the clock here says ${now.toISOString()}, the server's ${theirs}: `;
  }
  if (region !== undefined && (status === 301 || status === 307 || status === 400)) {
    return `the bucket is in region ${region}: `;
  }
  if (code === "NoSuchBucket") return "there is no such bucket: ";
  if (code === "CredentialsProviderError") return "this host has no credentials of its own and none were given: ";
  if (reasonByCode[code] === undefined && (status === 403 || status === 401)) return `${action} is refused: `;
  return "";
}

function hintOf({ code, status, region }: ErrorFacts, { action, wasAccepted }: Attempted): string | undefined {
  if (code === "InvalidAccessKeyId" && wasAccepted) {
    return "see whether the key was withdrawn, and whether the server reaches its own storage";
  }
  const refusal = refusals[code];
  if (refusal) return refusal.hint;
  if (region !== undefined && (status === 301 || status === 307 || status === 400)) {
    return `set the repository's region to ${region}`;
  }
  if (code === "NoSuchBucket") return "create the bucket, or correct its name; Coppice never creates one";
  if (isOfTls(code)) return "give the PEM of the authority that signed the server's certificate";
  if (code === "CredentialsProviderError") {
    return "give an access key, or let the host have one: environment, profile or instance role";
  }
  if (reasonByCode[code] === undefined && (status === 403 || status === 401)) {
    return `allow ${action} on the bucket to this key in a policy, then \`coppice repository check\``;
  }
  if (status === undefined || status >= 500) return "see that the server runs and is reached from that host";
  return undefined;
}

function isOfTls(code: string): boolean {
  return /CERT|^ERR_TLS_|^ERR_SSL_|^EPROTO$|UNABLE_TO_VERIFY/.test(code);
}
