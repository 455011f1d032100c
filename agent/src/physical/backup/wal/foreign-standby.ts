import { Failure } from "@coppice/proto/kit/failure";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";

/** Where the archive was compared with a standby. */
export interface Compared {
  readonly timeline: number;
  readonly endLsn: bigint;
  /** For people: of which cluster. */
  readonly clusterName: string;
}

/** That the archive holds other WAL than a standby has received. */
export function foreignStandby({ timeline, endLsn, clusterName }: Compared): Failure {
  const what = `the archive holds other WAL up to ${formatLsn(endLsn)} on timeline ${timeline} than the standby has received`;
  return new Failure("WAL_FOREIGN", what, {
    hint: `the standby follows a copy of the server that was archived, or one that was set back: coppice wal status ${clusterName}; a standby of a copy is no server of this cluster: coppice cluster remove-instance ${clusterName} HOST`,
  });
}

/** That nobody can tell which WAL the archive holds. */
export function untoldArchive(name: string): Failure {
  const what = `whether the archive's ${name} is the standby's cannot be told: it is encrypted, and no digest of what it holds is kept beside it`;
  return new Failure("IDENTITY_MISSING", what, {
    hint: "take the backup with its WAL in it: --wal embedded; or that of the primary: --instance primary",
  });
}
