import { type Installation, waitFor } from "../installation.ts";

interface Told {
  readonly windows?: readonly { readonly endTime?: string }[];
}

/**
 * Waits until recovery to a time of a cluster is known to be possible: by a later commit that is stored, or at the latest
 * by the clock that the agent reads from time to time. `time` is as PostgreSQL or the API prints it, in UTC.
 */
export async function waitUntilKnown(
  { call }: Pick<Installation, "call">,
  cluster: string,
  time: string,
  deadlineMs = 90_000,
): Promise<void> {
  const wanted = Date.parse(time.replace(" ", "T").replace(/\+00$/, "Z"));
  await waitFor(
    `recovery of ${cluster} to ${time} is possible`,
    async () => {
      const { windows = [] } = await call<Told>("ClusterService/GetRecoveryWindow", { cluster });
      return windows.some(({ endTime }) => endTime !== undefined && Date.parse(endTime) > wanted);
    },
    deadlineMs,
  );
}
