import { AwsError } from '../errors.ts';
import { escapeXml } from './xml.ts';

export type Protocol = 'ec2' | 'query' | 'json';

export interface WireResponse {
  status: number;
  headers: Record<string, string>;
  body: string;
}

const ec2Credentials = () => new AwsError('AuthFailure', 'AWS was not able to validate the provided access credentials', 401);
const ec2Expired = () => new AwsError('RequestExpired', 'Request has expired.', 400);

/** Authentication errors go by other names in each protocol; here is the one that each of them uses. */
const dialects: Record<Protocol, Record<string, (error: AwsError) => AwsError>> = {
  ec2: {
    InvalidClientTokenId: ec2Credentials,
    SignatureDoesNotMatch: ec2Credentials,
    RequestExpired: ec2Expired,
    ExpiredToken: ec2Expired,
  },
  query: { RequestExpired: (error) => new AwsError('SignatureDoesNotMatch', error.message, 403) },
  json: {
    InvalidClientTokenId: (error) => new AwsError('UnrecognizedClientException', error.message, 400),
    SignatureDoesNotMatch: (error) => new AwsError('InvalidSignatureException', error.message, 400),
    RequestExpired: (error) => new AwsError('InvalidSignatureException', error.message, 400),
    ExpiredToken: (error) => new AwsError('ExpiredTokenException', error.message, 400),
    MissingAuthenticationToken: (error) => new AwsError('MissingAuthenticationTokenException', error.message, 400),
    IncompleteSignature: (error) => new AwsError('IncompleteSignatureException', error.message, 400),
  },
};

/** The name that a service of a protocol gives to an authentication error. */
export function inDialect(protocol: Protocol, error: AwsError): AwsError {
  return dialects[protocol][error.code]?.(error) ?? error;
}

/** An error as a response of a protocol. */
export function failure(protocol: Protocol, xmlNamespace: string, error: AwsError, requestId: string): WireResponse {
  const code = escapeXml(error.code);
  const message = escapeXml(error.message);
  const headers = { 'content-type': 'text/xml;charset=UTF-8', 'x-amzn-requestid': requestId };
  switch (protocol) {
    case 'json':
      return {
        status: error.status,
        headers: { 'content-type': 'application/x-amz-json-1.1', 'x-amzn-requestid': requestId, 'x-amzn-errortype': error.code },
        body: JSON.stringify({ __type: error.code, message: error.message }),
      };
    case 'ec2':
      return {
        status: error.status,
        headers,
        body: `<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error><Code>${code}</Code><Message>${message}</Message></Error></Errors><RequestID>${requestId}</RequestID></Response>`,
      };
    case 'query': {
      const type = error.status >= 500 ? 'Receiver' : 'Sender';
      return {
        status: error.status,
        headers,
        body: `<ErrorResponse xmlns="${xmlNamespace}"><Error><Type>${type}</Type><Code>${code}</Code><Message>${message}</Message></Error><RequestId>${requestId}</RequestId></ErrorResponse>`,
      };
    }
  }
}
