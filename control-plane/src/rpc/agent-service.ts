import { create, toJson } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  type AgentService,
  EnrollRequestSchema,
  EnrollResponseSchema,
} from "@coppice/proto/gen/coppice/agent/v1/agent_service";
import { redactMessage } from "@coppice/proto/kit/log";
import { writeAudit } from "../audit/audit.ts";
import type { Catalog } from "../catalog/catalog.ts";
import type { Authority } from "../fleet/authority.ts";
import { enroll } from "../fleet/enrolment.ts";
import type { Fleet } from "../fleet/fleet.ts";
import { peerKey } from "./peer.ts";

/** What agents call. Both methods find out themselves who calls: by the token, or by the client certificate. */
export function createAgentService(parts: {
  readonly catalog: Catalog;
  readonly authority: Authority;
  readonly fleet: Fleet;
}): ServiceImpl<typeof AgentService> {
  const { catalog, authority, fleet } = parts;
  return {
    async enroll(request, context) {
      const { address: peerAddress } = context.values.get(peerKey);
      const identity = await catalog.transaction(async (tx) => {
        const enrolled = await enroll(tx, authority, request);
        await writeAudit(
          tx,
          {
            principal: `agent:${enrolled.hostName}`,
            tokenId: null,
            action: "AgentService/Enroll",
            request: toJson(EnrollRequestSchema, redactMessage(EnrollRequestSchema, request)),
            peerAddress,
          },
          { id: enrolled.hostId, name: enrolled.hostName },
        );
        return enrolled;
      });
      return create(EnrollResponseSchema, {
        hostId: identity.hostId,
        certificateChainPem: identity.certificateChainPem,
        trustedRootsPem: [...authority.rootsPem],
      });
    },
    session(requests, context) {
      return fleet.session(requests, context.values.get(peerKey).certificate, context.signal);
    },
  };
}
