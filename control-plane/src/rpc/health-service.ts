import type { ServiceImpl } from "@connectrpc/connect";
import {
  type Health,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from "@coppice/proto/gen/grpc/health/v1/health";
import { fail, toFailure } from "@coppice/proto/kit/failure";
import { sleep } from "@coppice/proto/kit/sleep";
import { servedServices } from "../access/method-roles.ts";

/** Pause between two looks of a watch. */
const lookMs = 5000;

/** The health service of gRPC, for load balancers: no token is asked for. */
export function healthService(options: { checkReady: () => Promise<void> }): ServiceImpl<typeof Health> {
  const names = new Set(["", ...Object.values(servedServices).map(({ typeName }) => typeName)]);
  const look = async (): Promise<ServingStatus> => {
    try {
      await options.checkReady();
      return ServingStatus.SERVING;
    } catch (error) {
      if (toFailure(error).reason === "CATALOG_UNREACHABLE") return ServingStatus.NOT_SERVING;
      throw error;
    }
  };
  return {
    async check({ service }) {
      if (!names.has(service)) fail("METHOD_UNKNOWN", `there is no service ${service.slice(0, 100)}`);
      return { status: await look() };
    },
    async *watch({ service }, { signal }) {
      let last: ServingStatus | undefined;
      while (!signal.aborted) {
        const status = names.has(service) ? await look() : ServingStatus.SERVICE_UNKNOWN;
        if (status !== last) yield { status };
        last = status;
        await sleep(lookMs, signal);
      }
    },
  };
}
