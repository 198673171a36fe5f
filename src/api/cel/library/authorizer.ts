import { t } from '../types.ts';
import { CelError, Opaque } from '../values.ts';
import { library } from './library.ts';

/** What is asked: everything an authorizer goes by but the user. */
export interface AccessCheck {
  path?: string;
  verb: string;
  group: string;
  version: string;
  resource: string;
  subresource: string;
  namespace: string;
  name: string;
  fieldSelector?: string;
  labelSelector?: string;
  /** Another user than the request's. */
  serviceAccount?: { namespace: string; name: string };
}

export interface AccessDecision {
  allowed: boolean;
  reason: string;
  error?: string;
}

type Decide = (check: AccessCheck) => AccessDecision;

const names = {
  authorizer: 'kubernetes.authorization.Authorizer',
  path: 'kubernetes.authorization.PathCheck',
  group: 'kubernetes.authorization.GroupCheck',
  resource: 'kubernetes.authorization.ResourceCheck',
  decision: 'kubernetes.authorization.Decision',
};

class Question extends Opaque {
  readonly type;
  readonly decide: Decide;
  readonly asked: Partial<AccessCheck>;
  constructor(name: string, decide: Decide, asked: Partial<AccessCheck>) {
    super();
    this.type = t.opaque(name);
    this.decide = decide;
    this.asked = asked;
  }
  with(name: string, more: Partial<AccessCheck>): Question {
    return new Question(name, this.decide, { ...this.asked, ...more });
  }
  override equals(other: Opaque): boolean {
    return this === other;
  }
}

class Decision extends Opaque {
  readonly type = t.opaque(names.decision);
  readonly decision: AccessDecision;
  constructor(decision: AccessDecision) {
    super();
    this.decision = decision;
  }
  override equals(other: Opaque): boolean {
    return this === other;
  }
}

export const authorizerType = t.opaque(names.authorizer);
export const resourceCheckType = t.opaque(names.resource);

/** The variable `authorizer`: asks about the user of a request. */
export const authorizerValue = (decide: Decide): Opaque => new Question(names.authorizer, decide, {});
/** The variable `authorizer.requestResource`. */
export const resourceCheckValue = (decide: Decide, asked: Partial<AccessCheck>): Opaque => new Question(names.resource, decide, asked);

function check(question: Question, verb: string): Decision {
  const empty = { group: '', version: '*', resource: '', subresource: '', namespace: '', name: '' };
  return new Decision(question.decide({ ...empty, ...question.asked, verb }));
}

const more = (name: string, field: keyof AccessCheck) => (question: Question, value: string) => question.with(name, { [field]: value });

export const authorizerLibrary = library({
  path: [
    [
      'authorizer_path',
      `${names.authorizer}.(string) ${names.path}`,
      (question: Question, path: string) => {
        if (!path) throw new CelError('path must not be empty');
        return question.with(names.path, { path });
      },
    ],
  ],
  group: [['authorizer_group', `${names.authorizer}.(string) ${names.group}`, more(names.group, 'group')]],
  serviceAccount: [
    [
      'authorizer_serviceaccount',
      `${names.authorizer}.(string, string) ${names.authorizer}`,
      (question: Question, namespace: string, name: string) => question.with(names.authorizer, { serviceAccount: { namespace, name } }),
    ],
  ],
  resource: [['groupcheck_resource', `${names.group}.(string) ${names.resource}`, more(names.resource, 'resource')]],
  subresource: [['resourcecheck_subresource', `${names.resource}.(string) ${names.resource}`, more(names.resource, 'subresource')]],
  namespace: [['resourcecheck_namespace', `${names.resource}.(string) ${names.resource}`, more(names.resource, 'namespace')]],
  name: [['resourcecheck_name', `${names.resource}.(string) ${names.resource}`, more(names.resource, 'name')]],
  fieldSelector: [['authorizer_fieldselector', `${names.resource}.(string) ${names.resource}`, more(names.resource, 'fieldSelector')]],
  labelSelector: [['authorizer_labelselector', `${names.resource}.(string) ${names.resource}`, more(names.resource, 'labelSelector')]],
  check: [
    ['pathcheck_check', `${names.path}.(string) ${names.decision}`, check],
    ['resourcecheck_check', `${names.resource}.(string) ${names.decision}`, check],
  ],
  errored: [['decision_errored', `${names.decision}.() bool`, (d: Decision) => d.decision.error !== undefined]],
  error: [['decision_error', `${names.decision}.() string`, (d: Decision) => d.decision.error ?? '']],
  allowed: [['decision_allowed', `${names.decision}.() bool`, (d: Decision) => d.decision.allowed]],
  reason: [['decision_reason', `${names.decision}.() string`, (d: Decision) => d.decision.reason]],
});

export const jsonPatchLibrary = library({
  'jsonpatch.escapeKey': [['string_jsonpatch_escapeKey_string', '(string) string', (s: string) => s.replaceAll('~', '~0').replaceAll('/', '~1')]],
});
