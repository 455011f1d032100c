import { InstanceChoice } from "@coppice/proto/gen/coppice/control/v1/backup";
import { fail } from "@coppice/proto/kit/failure";
import type { ClusterInstanceRow, ClusterRecord } from "../../catalog/cluster.ts";
import { primaryInstance } from "./primary-instance.ts";

/** A server that a backup may be taken of. */
export interface ChosenServer {
  readonly instance: ClusterInstanceRow;
  /** Whether it has to be a standby when the backup begins, or has to be none; either when left out. */
  readonly standby?: boolean;
}

/**
 * The servers of a cluster that a backup may be taken of, the best first; several only where the choice leaves it open. A
 * role is what the last look has seen: what it is when the backup begins is for the agent to see.
 * Errors: CLUSTER_WITHOUT_SERVER, INSTANCE_NOT_FOUND.
 */
export function chooseServers(
  cluster: ClusterRecord,
  choice: InstanceChoice,
  isConnected: (hostId: string) => boolean,
): readonly [ChosenServer, ...ChosenServer[]] {
  const main = { instance: primaryInstance(cluster) };
  const { row, instances } = cluster;
  // One that nothing is known of may be what is looked for.
  const lives = ({ hostId, reachable }: ClusterInstanceRow) => isConnected(hostId) && reachable !== false;
  const find = (role: "PRIMARY" | "STANDBY") => {
    const known = [role, "UNSPECIFIED"].flatMap((each) => instances.filter((one) => one.role === each));
    return known.find(lives) ?? known[0];
  };
  switch (choice) {
    case InstanceChoice.UNSPECIFIED:
      return [main];
    case InstanceChoice.PRIMARY: {
      const instance = main.instance.role === "PRIMARY" ? main.instance : find("PRIMARY");
      if (instance) return [{ instance, standby: false }];
      return fail("INSTANCE_NOT_FOUND", `no server of cluster ${row.name} is known to be its primary`, {
        hint: `look at its servers again: coppice cluster check ${row.name}; or name the primary: coppice cluster add-instance ${row.name} --host HOST`,
      });
    }
    case InstanceChoice.STANDBY: {
      const instance = find("STANDBY");
      if (instance) return [{ instance, standby: true }];
      return fail("INSTANCE_NOT_FOUND", `no server of cluster ${row.name} is known to be a standby`, {
        hint: `look at its servers again: coppice cluster check ${row.name}; or name one: coppice cluster add-instance ${row.name} --host HOST; or let the primary do where there is none: --instance prefer-standby`,
      });
    }
    case InstanceChoice.PREFER_STANDBY: {
      const [first, ...others] = instances
        .filter((one) => one.role === "STANDBY" && lives(one) && one.id !== main.instance.id)
        .map((instance) => ({ instance, standby: true }));
      return first ? [first, ...others, main] : [main];
    }
  }
}
