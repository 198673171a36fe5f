import type { CallContext, Operations } from '../cloud.ts';
import { AwsError } from '../errors.ts';
import { checkPolicyDocument, shown, sizeOf } from './documents.ts';
import { checkName, limitExceeded, noSuchEntity, page } from './entities.ts';
import { policyName } from './policies.ts';

const mostAttached = 10;

/** A role or user, as far as its policies go. */
interface Bearer {
  name: string;
  policies: Record<string, string>;
  attached: string[];
  change(fields: { policies?: Record<string, string>; attached?: string[] }): void;
}

/** The operations on the policies of roles or of users: inline ones, and those that are attached. */
export function permissionOperationsOf(
  noun: 'Role' | 'User',
  largestInline: number,
  find: (call: CallContext, name: string | undefined) => Bearer,
): Operations {
  const kind = noun.toLowerCase();
  const field = `${noun}Name`;
  const missing = (name: string) => noSuchEntity(`The ${kind} policy with name ${name} cannot be found.`);
  return {
    [`Put${noun}Policy`](input: any, call: CallContext) {
      const bearer = find(call, input[field]);
      const name = checkName(input.PolicyName, 'policyName', 128);
      const policies = { ...bearer.policies, [name]: checkPolicyDocument(input.PolicyDocument) };
      if (Object.values(policies).reduce((sum, document) => sum + sizeOf(document), 0) > largestInline) {
        throw new AwsError('LimitExceeded', `Maximum policy size of ${largestInline} bytes exceeded for ${kind} ${bearer.name}`, 409);
      }
      bearer.change({ policies });
    },

    [`Get${noun}Policy`](input: any, call: CallContext) {
      const bearer = find(call, input[field]);
      if (!Object.hasOwn(bearer.policies, input.PolicyName)) throw missing(input.PolicyName);
      return { [field]: bearer.name, PolicyName: input.PolicyName, PolicyDocument: shown(bearer.policies[input.PolicyName]!) };
    },

    [`List${noun}Policies`](input: any, call: CallContext) {
      const { items, ...rest } = page(Object.keys(find(call, input[field]).policies), (name) => name, input);
      return { PolicyNames: items, ...rest };
    },

    [`Delete${noun}Policy`](input: any, call: CallContext) {
      const bearer = find(call, input[field]);
      if (!Object.hasOwn(bearer.policies, input.PolicyName)) throw missing(input.PolicyName);
      const { [input.PolicyName]: _, ...policies } = bearer.policies;
      bearer.change({ policies });
    },

    [`Attach${noun}Policy`](input: any, call: CallContext) {
      const bearer = find(call, input[field]);
      policyName(call, input.PolicyArn);
      if (bearer.attached.includes(input.PolicyArn)) return;
      if (bearer.attached.length >= mostAttached) throw limitExceeded(`PoliciesPer${noun}`, mostAttached);
      bearer.change({ attached: [...bearer.attached, input.PolicyArn] });
    },

    [`Detach${noun}Policy`](input: any, call: CallContext) {
      const bearer = find(call, input[field]);
      if (!bearer.attached.includes(input.PolicyArn)) throw noSuchEntity(`Policy ${input.PolicyArn} was not found.`);
      bearer.change({ attached: bearer.attached.filter((arn) => arn !== input.PolicyArn) });
    },

    [`ListAttached${noun}Policies`](input: any, call: CallContext) {
      const prefix: string = input.PathPrefix ?? '/';
      const path = (arn: string) => arn.slice(arn.indexOf(':policy/') + ':policy'.length);
      const found = find(call, input[field]).attached.filter((arn) => path(arn).startsWith(prefix));
      const { items, ...rest } = page(found, (arn) => arn, input);
      return { AttachedPolicies: items.map((arn) => ({ PolicyName: arn.slice(arn.lastIndexOf('/') + 1), PolicyArn: arn })), ...rest };
    },
  };
}
