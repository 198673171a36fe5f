import type * as elb from '@aws-sdk/client-elastic-load-balancing-v2';
import type { CallContext, Operations } from '../cloud.ts';
import { dropTags } from '../ec2/tags.ts';
import { AwsError } from '../errors.ts';
import { elbId } from '../ids.ts';
import type { ListenerRecord, LoadBalancerRecord, RuleRecord } from '../state/records.ts';
import { checkActions } from './actions.ts';
import { targetGroupsOf } from './forwards.ts';
import { mostRules } from './limits.ts';
import { findBalancer, findListener, findRule, invalidConfiguration, page, validationError } from './names.ts';
import { addTags } from './tags.ts';
import { settleTargets } from './targets.ts';

const mostValues = 5;

/** The configuration that goes with a condition's field; those of the first three may also be given as plain Values. */
const fields: Record<string, { config: keyof elb.RuleCondition; plain: boolean }> = {
  'path-pattern': { config: 'PathPatternConfig', plain: true },
  'host-header': { config: 'HostHeaderConfig', plain: true },
  'http-header': { config: 'HttpHeaderConfig', plain: false },
  'http-request-method': { config: 'HttpRequestMethodConfig', plain: false },
  'query-string': { config: 'QueryStringConfig', plain: false },
  'source-ip': { config: 'SourceIpConfig', plain: false },
};

function view(record: RuleRecord): elb.Rule {
  const { listenerArn: _, ...shape } = record;
  return shape;
}

/** Conditions as they are kept: values that may be named in two ways are named in both. */
function checkConditions(conditions: elb.RuleCondition[] | undefined): elb.RuleCondition[] {
  if (!conditions?.length) throw validationError('At least one condition must be specified');
  let count = 0;
  const kept = conditions.map((condition): elb.RuleCondition => {
    const field = condition.Field ?? '';
    if (!Object.hasOwn(fields, field)) throw validationError(`Condition field '${field}' must be one of '[${Object.keys(fields).join(', ')}]'`);
    const { config, plain } = fields[field]!;
    const given = condition[config] as { Values?: unknown[] } | undefined;
    const values = given?.Values ?? (plain ? condition.Values : undefined);
    if (!values?.length) throw validationError('A condition value must be specified');
    count += values.length;
    if (plain) return { Field: field, Values: values as string[], [config]: { Values: values } };
    return { Field: field, [config]: given };
  });
  if (count > mostValues) throw validationError(`A rule can have at most ${mostValues} condition values`);
  return kept;
}

function checkPriority(priority: number | undefined): number {
  if (priority === undefined || !Number.isInteger(priority) || priority < 1 || priority > 50_000) {
    throw validationError(`Priority '${priority ?? ''}' must be between 1 and 50000`);
  }
  return priority;
}

function home(call: CallContext, listenerArn: string): { listener: ListenerRecord; balancer: LoadBalancerRecord } {
  const listener = findListener(call, listenerArn);
  return { listener, balancer: findBalancer(call, listener.LoadBalancerArn) };
}

/** By priority, the default rule last. */
const order = (rule: RuleRecord) => `${rule.listenerArn} ${rule.IsDefault ? 'default' : rule.Priority.padStart(5, '0')}`;

export const ruleOperations = {
  CreateRule(input: elb.CreateRuleInput, call: CallContext): elb.CreateRuleOutput {
    const { listener, balancer } = home(call, input.ListenerArn ?? '');
    if (balancer.Type !== 'application') throw invalidConfiguration('Rules are not supported with listeners of network load balancers');
    const priority = String(checkPriority(input.Priority));
    const conditions = checkConditions(input.Conditions);
    const actions = checkActions(call, balancer, listener.Protocol, input.Actions);
    const existing = call.tables.rules.by('listener', listener.ListenerArn);
    if (existing.some((one) => one.Priority === priority)) throw new AwsError('PriorityInUse', `Priority '${priority}' is currently in use`);
    if (existing.length > mostRules) throw new AwsError('TooManyRules', `The limit of ${mostRules} rules has been reached`);
    const arn = `${listener.ListenerArn.replace(':listener/', ':listener-rule/')}/${elbId()}`;
    const record = call.tables.rules.put(arn, {
      RuleArn: arn,
      listenerArn: listener.ListenerArn,
      Priority: priority,
      Conditions: conditions,
      Actions: actions,
      IsDefault: false,
    });
    addTags(call, arn, input.Tags);
    for (const group of targetGroupsOf(actions)) settleTargets(call, group);
    return { Rules: [view(record)] };
  },

  DescribeRules(input: elb.DescribeRulesInput, call: CallContext): elb.DescribeRulesOutput {
    if ((input.RuleArns?.length ? 1 : 0) + (input.ListenerArn === undefined ? 0 : 1) !== 1) {
      throw validationError('You must specify either listener rule ARNs or a listener ARN');
    }
    const found = input.RuleArns?.length
      ? [...new Set(input.RuleArns)].map((arn) => findRule(call, arn))
      : call.tables.rules.by('listener', findListener(call, input.ListenerArn).ListenerArn);
    const { items, ...rest } = page(found, order, input);
    return { Rules: items.sort((a, b) => (order(a) < order(b) ? -1 : 1)).map(view), ...rest };
  },

  ModifyRule(input: elb.ModifyRuleInput, call: CallContext): elb.ModifyRuleOutput {
    const rule = findRule(call, input.RuleArn);
    if (rule.IsDefault) throw new AwsError('OperationNotPermitted', `Default rule '${rule.RuleArn}' cannot be modified`);
    const { listener, balancer } = home(call, rule.listenerArn);
    const actions = input.Actions ? checkActions(call, balancer, listener.Protocol, input.Actions) : rule.Actions;
    const changed = call.tables.rules.change(rule.RuleArn, {
      Actions: actions,
      ...(input.Conditions ? { Conditions: checkConditions(input.Conditions) } : {}),
    });
    for (const group of new Set([...targetGroupsOf(rule.Actions), ...targetGroupsOf(actions)])) settleTargets(call, group);
    return { Rules: [view(changed)] };
  },

  DeleteRule(input: elb.DeleteRuleInput, call: CallContext): elb.DeleteRuleOutput {
    const rule = findRule(call, input.RuleArn);
    if (rule.IsDefault) throw new AwsError('OperationNotPermitted', `Default rule '${rule.RuleArn}' cannot be deleted`);
    call.tables.rules.delete(rule.RuleArn);
    dropTags(call, rule.RuleArn);
    for (const group of targetGroupsOf(rule.Actions)) settleTargets(call, group);
    return {};
  },

  SetRulePriorities(input: elb.SetRulePrioritiesInput, call: CallContext): elb.SetRulePrioritiesOutput {
    const { rules } = call.tables;
    const wanted = new Map<string, string>();
    for (const pair of input.RulePriorities ?? []) {
      const rule = findRule(call, pair.RuleArn);
      if (rule.IsDefault) throw new AwsError('OperationNotPermitted', `The priority of default rule '${rule.RuleArn}' cannot be modified`);
      wanted.set(rule.RuleArn, String(checkPriority(pair.Priority)));
    }
    const changed = [...wanted].map(([arn, priority]) => rules.change(arn, { Priority: priority }));
    for (const rule of changed) {
      if (rules.by('listener', rule.listenerArn).some((one) => one.Priority === rule.Priority && one.RuleArn !== rule.RuleArn)) {
        throw new AwsError('PriorityInUse', `Priority '${rule.Priority}' is currently in use`);
      }
    }
    return { Rules: changed.map(view) };
  },
} satisfies Operations;
