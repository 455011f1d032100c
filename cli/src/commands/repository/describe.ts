import { createHash } from "node:crypto";
import type { RepositoryLocation } from "@coppice/proto/gen/coppice/common/v1/location";
import type { Repository } from "@coppice/proto/gen/coppice/control/v1/repository";
import { formatSize } from "@coppice/proto/kit/size";
import { formatLocation } from "../../input/location.ts";
import { formatDetails } from "../../output/details.ts";
import { formatRelative } from "../../output/elapsed.ts";
import { formatLabels } from "../../output/labels.ts";
import { timeOf } from "../../output/time.ts";

type Line = readonly [name: string, value: string | undefined];

/** Whether the last work on a repository reached it. */
export const reachability = ({ reachable }: Repository) =>
  reachable === undefined ? "not tried" : reachable ? "yes" : "no";

/** What is known of a repository, without any secret: credentials by their ids, host keys by their fingerprints. */
export function describeRepository(repository: Repository, now: Date): string {
  return formatDetails([
    ["name", repository.name],
    ["id", repository.id],
    ["labels", formatLabels(repository.labels)],
    ["location", formatLocation(repository.homeHostName, repository.location)],
    ...placeLines(repository.location),
    ...credentialLines(repository),
    ...encryptionLines(repository, now),
    ["backups", `${repository.backups}, ${formatSize(repository.storedBytes)}`],
    ["reachable", reachability(repository)],
    ["tried", repository.reachableTime && formatRelative(timeOf(repository.reachableTime), now)],
    ["problem", repository.problem],
  ]);
}

function placeLines(location: RepositoryLocation | undefined): Line[] {
  switch (location?.kind.case) {
    case "filesystem":
      return [
        ["shared", location.kind.value.shared ? "yes, mounted on every host" : "no, only its home host reaches it"],
      ];
    case "s3": {
      const { endpoint, region, pathStyle, storageClass, serverSideEncryption, kmsKeyId, caPem, profile } =
        location.kind.value;
      return [
        ["endpoint", endpoint || "Amazon's own"],
        ["region", region || "as the hosts are configured, or us-east-1"],
        ["addressed", pathStyle === undefined ? undefined : pathStyle ? "by path" : "by host name"],
        ["storage class", storageClass],
        ["encrypted by server", serverSideEncryption && `${serverSideEncryption}${kmsKeyId && `, key ${kmsKeyId}`}`],
        ["authorities", caPem && "its own, given as PEM"],
        ["profile", profile],
      ];
    }
    case "ssh": {
      const { hostKeys, identityFile } = location.kind.value;
      return [...hostKeys.map((key) => ["host key", fingerprint(key)] as const), ["identity file", identityFile]];
    }
    case undefined:
      return [];
  }
}

/** As `ssh-keygen -l` shows a key. */
function fingerprint(key: string): string {
  const [type = "", base64 = ""] = key.split(" ");
  const digest = createHash("sha256").update(Buffer.from(base64, "base64")).digest("base64");
  return `${type} SHA256:${digest.replace(/=+$/, "")}`;
}

function credentialLines({ location, credentials }: Repository): Line[] {
  if (location?.kind.case === "filesystem") return [];
  const write = credentials?.write || "the hosts' own";
  return [
    ["credentials to write", write],
    ["credentials to read", credentials?.read || (credentials?.write ? "those to write" : write)],
    ["credentials to delete", credentials?.delete || (credentials?.write ? "those to write" : write)],
  ];
}

function encryptionLines({ encryption }: Repository, now: Date): Line[] {
  if (!encryption) return [["encryption", "none"]];
  const { recipients, recoveryRecipient, recoveryProveTime, hasIdentity, adoptedRecipients } = encryption;
  return [
    ["encryption", "by age, on the hosts, before anything is stored"],
    ["recovery recipient", `${recoveryRecipient}, proved ${formatRelative(timeOf(recoveryProveTime), now)}`],
    ...recipients.filter((one) => one !== recoveryRecipient).map((one) => ["recipient", one] as const),
    ["identity", hasIdentity ? "kept sealed, for hosts labelled may-decrypt" : "kept outside of Coppice only"],
    ["adopted", adoptedRecipients.length === 0 ? undefined : `the identity of ${adoptedRecipients.join(", ")}`],
  ];
}
