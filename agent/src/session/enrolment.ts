import { hostname } from "node:os";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import {
  AgentService,
  type EnrollRequest,
  EnrollRequestSchema,
  type EnrollResponse,
} from "@coppice/proto/gen/coppice/agent/v1/agent_service";
import type { EnrolmentToken } from "@coppice/proto/kit/enrolment-token";
import { Failure, fail, isFailure } from "@coppice/proto/kit/failure";
import { certificateFingerprint, splitPemChain } from "@coppice/proto/kit/tls";
import { makeCertificateRequest } from "./certificate-request.ts";
import { openChannel } from "./channel.ts";
import { grpcMethod } from "./grpc-glue.ts";
import type { Identity } from "./identity.ts";
import { failureFromRpc } from "./rpc-failure.ts";
import { fetchRoot } from "./server-chain.ts";

const method = grpcMethod(AgentService.method.enroll);
const callBoundMs = 30_000;
const connectBoundMs = 10_000;

/**
 * Trades the token for an identity. The key is made here and never leaves; the server is trusted only by the token's
 * fingerprint. Addresses are tried in turn as long as one does not answer. Fails with CONTROL_PLANE_UNREACHABLE,
 * CERTIFICATE_UNTRUSTED, or what the control plane says of the token: TOKEN_USED, TOKEN_EXPIRED, TOKEN_WRONG_HOST.
 */
export async function enrol(token: EnrolmentToken, agentVersion: string, signal: AbortSignal): Promise<Identity> {
  const { privateKeyPem, requestPem } = makeCertificateRequest(token.host);
  const { address, rootPem } = await findServer(token, signal);
  const request = create(EnrollRequestSchema, {
    token: token.secret,
    hostName: token.host,
    csrPem: requestPem,
    machineName: hostname(),
    agentVersion,
  });
  const response = await callEnroll(address, rootPem, request);
  checkResponse(response, privateKeyPem);
  return {
    hostId: response.hostId,
    hostName: token.host,
    // The one that has just answered is the first to be tried.
    addresses: [address, ...token.addresses.filter((other) => other !== address)],
    certificateChainPem: response.certificateChainPem,
    privateKeyPem,
    trustedRootsPem: response.trustedRootsPem,
  };
}

async function findServer(
  { addresses, ca }: EnrolmentToken,
  signal: AbortSignal,
): Promise<{ address: string; rootPem: string }> {
  let unreachable: Failure | undefined;
  for (const address of addresses) {
    try {
      const bound = AbortSignal.any([signal, AbortSignal.timeout(connectBoundMs)]);
      return { address, rootPem: await fetchRoot(address, ca, bound) };
    } catch (error) {
      signal.throwIfAborted();
      const failure = asUnreachable(error, address);
      unreachable ??= failure;
    }
  }
  throw unreachable ?? fail("CONTROL_PLANE_UNREACHABLE", "the token names no address");
}

/** A wrong authority ends the search; an address that does not answer leaves it to the next. */
function asUnreachable(error: unknown, address: string): Failure {
  if (isFailure(error, "CONTROL_PLANE_UNREACHABLE")) return error;
  if (error instanceof Error && error.name === "TimeoutError") {
    return new Failure("CONTROL_PLANE_UNREACHABLE", `${address} did not answer within ${connectBoundMs / 1000} s`);
  }
  throw error;
}

async function callEnroll(address: string, rootPem: string, request: EnrollRequest): Promise<EnrollResponse> {
  using client = openChannel({ address, rootsPem: [rootPem] });
  return await new Promise<EnrollResponse>((resolve, reject) => {
    client.makeUnaryRequest(
      method.path,
      method.serialize,
      method.deserialize,
      request,
      { deadline: Date.now() + callBoundMs },
      (error, response) => {
        if (error) reject(failureFromRpc(error, address));
        else if (response) resolve(response);
        else reject(new Error("neither an error nor a response"));
      },
    );
  });
}

function checkResponse({ hostId, certificateChainPem, trustedRootsPem }: EnrollResponse, privateKeyPem: string): void {
  const [leaf] = splitPemChain(certificateChainPem);
  const isComplete = hostId !== "" && leaf !== undefined && trustedRootsPem.length > 0;
  if (!isComplete) fail("INTERNAL", "the control plane's answer to the enrolment lacks a part");
  if (!new X509Certificate(leaf).checkPrivateKey(createPrivateKey(privateKeyPem))) {
    fail("INTERNAL", "the control plane's certificate is not for the key that was sent");
  }
  for (const root of trustedRootsPem) certificateFingerprint(root);
}
