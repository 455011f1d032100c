import type { DesiredEntry, DesiredState } from "@coppice/proto/gen/coppice/agent/v1/desired_state";
import type { WalArchive } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { slotOf } from "../wal/receive/slot-name.ts";

/** An archive that has ended, and for which its server may still have a slot or an archive_command. */
export interface Withdrawal {
  /** Id of the entry that it was. */
  readonly id: string;
  /** Revision that ended it. */
  readonly revision: bigint;
  readonly archive: WalArchive;
}

/**
 * What is to be withdrawn once a state follows on the one that is held: what was before, archives that it ends, and slots
 * that others take the place of. A slot that another agent goes on with is not among them, nor what was given up already
 * and is given up again: that is how a person says that the server is gone, or a control plane that the slot is somebody
 * else's by now.
 */
export function leftOver(
  held: { readonly state: DesiredState; readonly withdrawals: readonly Withdrawal[] },
  next: DesiredState,
): Withdrawal[] {
  const present = held.state.entries.flatMap(toArchive);
  const endOf = (id: string) => next.ended.find((one) => one.id === id)?.revision;
  const isWanted = (id: string) => present.some((one) => one.id === id);
  const former = held.withdrawals.flatMap((one) => {
    const end = endOf(one.id);
    if (end === undefined || end <= one.revision) return [one];
    return isWanted(one.id) ? [{ ...one, revision: end }] : [];
  });
  const added = present
    .filter(({ id, archive }) => {
      const desired = next.entries.find((one) => one.id === id)?.desired;
      if (desired === undefined) return true;
      if (desired.case !== "walArchive") return false;
      const { systemIdentifier } = desired.value;
      return systemIdentifier === archive.systemIdentifier && slotOf(desired.value) !== slotOf(archive);
    })
    .map(({ id, archive }) => ({ id, archive, revision: endOf(id) ?? next.revision }));
  const all = new Map([...former, ...added].map((one) => [keyOf(one), one]));
  return stillLeft([...all.values()], next);
}

/** Those that nobody goes on with in a state. */
export function stillLeft(withdrawals: readonly Withdrawal[], { entries }: DesiredState): Withdrawal[] {
  return withdrawals.filter(({ id, archive: { systemIdentifier, ...archive } }) => {
    const desired = entries.find((one) => one.id === id)?.desired;
    if (desired?.case === undefined || desired.value.systemIdentifier !== systemIdentifier) return true;
    return desired.case === "walArchive" && slotOf(desired.value) !== slotOf(archive);
  });
}

/** One for each slot of a server. */
export function keyOf({ id, archive }: Pick<Withdrawal, "id" | "archive">): string {
  return `${id} ${archive.systemIdentifier} ${slotOf(archive)}`;
}

function toArchive({ id, desired }: DesiredEntry): { id: string; archive: WalArchive }[] {
  return desired.case === "walArchive" ? [{ id, archive: desired.value }] : [];
}
