import type { DesiredEntry, DesiredState, WalSuccessor } from "@coppice/proto/gen/coppice/agent/v1/desired_state";
import type { WalArchive } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { slotOf } from "../wal/receive/slot-name.ts";

/** An archive that has ended, and for which its server may still have a slot or an archive_command. */
export interface Withdrawal {
  /** Id of the entry that it was. */
  readonly id: string;
  /** Revision that ended it. */
  readonly revision: bigint;
  readonly archive: WalArchive;
  /**
   * Another agent is to go on with it: nothing is withdrawn until that is given up as well, for that one may never have come
   * to the server.
   */
  readonly isHandedOver: boolean;
  /** Another agent archives the same server since, by another slot: archive_command is that one's matter. */
  readonly isSucceeded: boolean;
}

/**
 * What is to be withdrawn once a state follows on the one that is held: what was before, archives that it ends, and slots
 * that others take the place of. What another agent goes on with is only kept in mind. A slot that another agent has taken
 * up since is not among them, nor what was given up already and is given up again while nobody archives: that is how a
 * person says that the server is gone.
 */
export function leftOver(
  held: { readonly state: DesiredState; readonly withdrawals: readonly Withdrawal[] },
  next: DesiredState,
): Withdrawal[] {
  const present = held.state.entries.flatMap(toArchive);
  const endOf = (id: string) => next.ended.find((one) => one.id === id);
  const isWanted = (id: string) => present.some((one) => one.id === id);
  const former = held.withdrawals.flatMap((one) => {
    const end = endOf(one.id);
    if (end === undefined || end.revision <= one.revision) return [one];
    if (one.isHandedOver) return [{ ...one, isHandedOver: false, revision: end.revision }];
    return isWanted(one.id) || end.successor ? [{ ...one, revision: end.revision }] : [];
  });
  const added = present
    .filter(({ id, archive }) => {
      const desired = next.entries.find((one) => one.id === id)?.desired;
      if (desired?.case === undefined) return true;
      if (desired.value.systemIdentifier !== archive.systemIdentifier) return false;
      return desired.case === "walEnd" || slotOf(desired.value) !== slotOf(archive);
    })
    .map(({ id, archive }) => ({ id, archive, revision: endOf(id)?.revision ?? next.revision, ...first }));
  const all = new Map([...former, ...added].map((one) => [keyOf(one), one]));
  const left = [...all.values()].flatMap((one) => {
    const end = endOf(one.id);
    return end === undefined ? [one] : besides(one, end.successor);
  });
  return stillLeft(left, next);
}

const first = { isHandedOver: false, isSucceeded: false };

/** What is left of one beside what another agent archives the cluster by. */
function besides(one: Withdrawal, successor: WalSuccessor | undefined): Withdrawal[] {
  const isSucceeded = successor?.systemIdentifier === one.archive.systemIdentifier;
  return isSucceeded && successor.slot === slotOf(one.archive) ? [] : [{ ...one, isSucceeded }];
}

/** Those that this agent does not go on with in a state, and which of them another one may go on with. */
export function stillLeft(withdrawals: readonly Withdrawal[], { entries, revision }: DesiredState): Withdrawal[] {
  return withdrawals.flatMap((one): Withdrawal[] => {
    const { id, archive, isHandedOver } = one;
    const desired = entries.find((entry) => entry.id === id)?.desired;
    if (desired?.case === undefined || desired.value.systemIdentifier !== archive.systemIdentifier) return [one];
    if (desired.case === "walEnd") return [isHandedOver ? one : { ...one, isHandedOver: true, revision }];
    if (slotOf(desired.value) === slotOf(archive)) return [];
    return [isHandedOver ? { ...one, isHandedOver: false, revision } : one];
  });
}

/** Those whose turn it is. */
export function dueOf(withdrawals: readonly Withdrawal[]): Withdrawal[] {
  return withdrawals.filter(({ isHandedOver }) => !isHandedOver);
}

/** One for each slot of a server. */
export function keyOf({ id, archive }: Pick<Withdrawal, "id" | "archive">): string {
  return `${id} ${archive.systemIdentifier} ${slotOf(archive)}`;
}

function toArchive({ id, desired }: DesiredEntry): { id: string; archive: WalArchive }[] {
  return desired.case === "walArchive" ? [{ id, archive: desired.value }] : [];
}
