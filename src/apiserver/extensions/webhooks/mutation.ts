import { checkTypes, unknownFields } from '../../../api/decode.ts';
import { applyDefaults } from '../../../api/defaults.ts';
import { sameJson } from '../../../api/equality.ts';
import { internalError } from '../../../api/errors.ts';
import type { AdmissionRequest } from '../../admission/chain.ts';

/** Puts what admission made of an object in its place, checked and completed as if the client had sent it so. Whether it differs. */
export function replaceObject(request: AdmissionRequest, next: any): boolean {
  const { object, call } = request;
  const { served } = call.target;
  if (typeof next !== 'object' || next === null || Array.isArray(next)) throw internalError('admission must leave an object');
  // Bodies of subresources have kinds of their own.
  if (next.kind === served.kind) {
    checkTypes(served.definition, next, served);
    unknownFields(served.definition, next);
    applyDefaults(served, next);
  }
  if (sameJson(next, object)) return false;
  for (const key of Object.keys(object)) delete object[key];
  Object.assign(object, next);
  return true;
}
