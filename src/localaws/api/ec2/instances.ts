import type {
  DescribeInstanceStatusRequest,
  DescribeInstanceStatusResult,
  DescribeInstancesRequest,
  DescribeInstancesResult,
  GetConsoleOutputRequest,
  GetConsoleOutputResult,
  InstanceStateChange,
  RebootInstancesRequest,
  Reservation,
  StartInstancesRequest,
  StartInstancesResult,
  StopInstancesRequest,
  StopInstancesResult,
  TerminateInstancesRequest,
  TerminateInstancesResult,
} from '@aws-sdk/client-ec2';
import { type CallContext, now, type Operations } from '../cloud.ts';
import { AwsError } from '../errors.ts';
import type { InstanceRecord } from '../state/records.ts';
import { describe, find, paginate } from './describe.ts';
import { setState, userShutdown } from './instance-states.ts';
import { instanceFilters, viewInstance } from './instance-view.ts';
import { names } from './names.ts';
import { takePublicAddresses } from './network-interfaces.ts';

const changed = (before: InstanceRecord, after: InstanceRecord): InstanceStateChange => ({
  InstanceId: before.instance.InstanceId,
  PreviousState: before.instance.State,
  CurrentState: after.instance.State,
});

function each(call: CallContext, ids: string[] | undefined, change: (record: InstanceRecord) => InstanceRecord): InstanceStateChange[] {
  if (!ids?.length) throw new AwsError('MissingParameter', 'The request must contain the parameter InstanceId');
  const records = [...new Set(ids)].map((id) => find(call.tables.instances, names.instance, id));
  return records.map((record) => changed(record, change(record)));
}

const incorrectState = (record: InstanceRecord, verb: string) =>
  new AwsError('IncorrectInstanceState', `The instance '${record.instance.InstanceId}' is not in a state from which it can be ${verb}.`);

export const instanceOperations = {
  DescribeInstances(input: DescribeInstancesRequest, call: CallContext): DescribeInstancesResult {
    const { instances } = call.tables;
    const view = (record: InstanceRecord) => ({ ...viewInstance(call, record), reservationId: record.reservationId, ownerId: call.accountId });
    const page = describe(instances, names.instance, view, (i) => i.InstanceId, instanceFilters, input.InstanceIds, input);
    const reservations = new Map<string, Reservation>();
    for (const { reservationId, ownerId: _, ...instance } of page.items) {
      const reservation = reservations.get(reservationId) ?? { ReservationId: reservationId, OwnerId: call.accountId, Groups: [], Instances: [] };
      reservation.Instances?.push(instance);
      reservations.set(reservationId, reservation);
    }
    return { Reservations: [...reservations.values()], NextToken: page.NextToken };
  },

  DescribeInstanceStatus(input: DescribeInstanceStatusRequest, call: CallContext): DescribeInstanceStatusResult {
    const view = (record: InstanceRecord) => viewInstance(call, record);
    const { IncludeAllInstances: all, InstanceIds, Filters } = input;
    const found = describe(call.tables.instances, names.instance, view, (i) => i.InstanceId, instanceFilters, InstanceIds, {
      ...(Filters ? { Filters } : {}),
    });
    const shown = found.items.filter((i) => all || i.State?.Name === 'running');
    const page = paginate(shown, (i) => i.InstanceId, input);
    return {
      InstanceStatuses: page.items.map((i) => {
        const running = i.State?.Name === 'running';
        const summary = {
          Status: running ? ('ok' as const) : ('not-applicable' as const),
          Details: running ? [{ Name: 'reachability' as const, Status: 'passed' as const }] : [],
        };
        return {
          InstanceId: i.InstanceId,
          AvailabilityZone: i.Placement?.AvailabilityZone,
          InstanceState: i.State,
          InstanceStatus: summary,
          SystemStatus: summary,
        };
      }),
      NextToken: page.NextToken,
    };
  },

  StartInstances(input: StartInstancesRequest, call: CallContext): StartInstancesResult {
    const StartingInstances = each(call, input.InstanceIds, (record) => {
      const name = record.instance.State.Name;
      if (name === 'running' || name === 'pending') return record;
      if (name !== 'stopped') throw incorrectState(record, 'started');
      takePublicAddresses(call, record.instance.InstanceId);
      const started = setState(call, record, 'pending');
      return call.tables.instances.put(record.instance.InstanceId, { ...started, instance: { ...started.instance, LaunchTime: now(call) } });
    });
    return { StartingInstances };
  },

  StopInstances(input: StopInstancesRequest, call: CallContext): StopInstancesResult {
    const StoppingInstances = each(call, input.InstanceIds, (record) => {
      const name = record.instance.State.Name;
      if (name === 'stopped' || name === 'stopping') return record;
      if (name !== 'running') throw incorrectState(record, 'stopped');
      if (record.stopProtection)
        throw new AwsError(
          'OperationNotPermitted',
          `The instance '${record.instance.InstanceId}' may not be stopped. Modify its 'disableApiStop' instance attribute and try again.`,
        );
      return setState(call, record, 'stopping', userShutdown);
    });
    return { StoppingInstances };
  },

  RebootInstances(input: RebootInstancesRequest, call: CallContext) {
    each(call, input.InstanceIds, (record) => {
      const name = record.instance.State.Name;
      if (name !== 'running' && name !== 'pending') throw incorrectState(record, 'rebooted');
      return call.tables.instances.change(record.instance.InstanceId, { reboots: record.reboots + 1 });
    });
  },

  TerminateInstances(input: TerminateInstancesRequest, call: CallContext): TerminateInstancesResult {
    const TerminatingInstances = each(call, input.InstanceIds, (record) => {
      const name = record.instance.State.Name;
      if (name === 'terminated' || name === 'shutting-down') return record;
      if (record.terminationProtection) {
        throw new AwsError(
          'OperationNotPermitted',
          `The instance '${record.instance.InstanceId}' may not be terminated. Modify its 'disableApiTermination' instance attribute and try again.`,
        );
      }
      return setState(call, record, 'shutting-down', userShutdown);
    });
    return { TerminatingInstances };
  },

  async GetConsoleOutput(input: GetConsoleOutputRequest, call: CallContext): Promise<GetConsoleOutputResult> {
    const { instance } = find(call.tables.instances, names.instance, input.InstanceId);
    const text = await call.consoles.read(instance.InstanceId);
    return { InstanceId: instance.InstanceId, Timestamp: now(call), ...(text === undefined ? {} : { Output: Buffer.from(text).toString('base64') }) };
  },
} satisfies Operations;
