package webhooks

// Cause says why a call ended. It is the one word that the SIP answer, the Q.850 value, the record, the sentence a
// person reads and the log all follow from; the table below is the only place where they are put together.
type Cause string

// The causes of the contract. A new one is a new row in causes.
const (
	CauseProgramEnd    Cause = "program_end"
	CauseCallerHangup  Cause = "caller_hangup"
	CauseCalleeHangup  Cause = "callee_hangup"
	CauseAPIHangup     Cause = "api_hangup"
	CauseRejected      Cause = "rejected"
	CauseBusy          Cause = "busy"
	CauseNoAnswer      Cause = "no_answer"
	CauseCanceled      Cause = "canceled"
	CauseDeclined      Cause = "declined"
	CauseUnreachable   Cause = "unreachable"
	CauseNotFound      Cause = "not_found"
	CauseNotAllowed    Cause = "not_allowed"
	CauseNoCodec       Cause = "no_codec"
	CauseLoop          Cause = "loop"
	CauseWebhookFailed Cause = "webhook_failed"
	CauseMediaTimeout  Cause = "media_timeout"
	CauseTimeLimit     Cause = "time_limit"
	CauseOverload      Cause = "overload"
	CauseEdgeDrain     Cause = "edge_drain"
	CauseEdgeLost      Cause = "edge_lost"
	CauseError         Cause = "error"
)

// EndedBy says which side ended a call.
type EndedBy string

// Who can end a call.
const (
	EndedByCaller      EndedBy = "caller"
	EndedByCallee      EndedBy = "callee"
	EndedByApplication EndedBy = "application"
	EndedByAPI         EndedBy = "api"
	EndedBySystem      EndedBy = "system"
)

// CauseInfo is one row of the table of causes.
type CauseInfo struct {
	SIP      int     // final response where the call was not answered yet (RFC 3261 §21)
	Q850     int     // value for the Reason header (ITU-T Q.850)
	Status   Status  // the status of a call that ended unanswered for this cause
	EndedBy  EndedBy // who usually ends a call with this cause
	Chinese  string  // one sentence for a person, ending without a stop
	English  string
	Answered bool // a call with this cause was in progress, so its status is completed
}

var causes = map[Cause]CauseInfo{
	CauseProgramEnd:    {603, 16, StatusRejected, EndedByApplication, "程序执行完毕，通话正常结束", "The program came to its end", true},
	CauseCallerHangup:  {487, 16, StatusCanceled, EndedByCaller, "主叫挂机", "The caller hung up", true},
	CauseCalleeHangup:  {487, 16, StatusCanceled, EndedByCallee, "被叫挂机", "The called party hung up", true},
	CauseAPIHangup:     {480, 16, StatusCanceled, EndedByAPI, "通过接口挂断", "The call was hung up through the API", true},
	CauseRejected:      {603, 21, StatusRejected, EndedByApplication, "应用拒绝了来电", "The application rejected the call", false},
	CauseBusy:          {486, 17, StatusBusy, EndedByCallee, "被叫忙", "The called party was busy", false},
	CauseNoAnswer:      {480, 19, StatusNoAnswer, EndedBySystem, "被叫无人应答", "Nobody answered in time", false},
	CauseCanceled:      {487, 16, StatusCanceled, EndedByCaller, "主叫在接通前取消了呼叫", "The caller gave up before an answer", false},
	CauseDeclined:      {603, 21, StatusRejected, EndedByCallee, "被叫拒接", "The called party declined", false},
	CauseUnreachable:   {480, 20, StatusFailed, EndedBySystem, "被叫无法接通：话机未注册或对端没有响应", "The called party could not be reached: not registered, or no response", false},
	CauseNotFound:      {404, 1, StatusFailed, EndedBySystem, "号码不存在，或未绑定任何应用", "The number does not exist or is bound to no application", false},
	CauseNotAllowed:    {403, 21, StatusFailed, EndedBySystem, "账户规则不允许此呼叫", "The account's rules do not allow this call", false},
	CauseNoCodec:       {488, 88, StatusFailed, EndedBySystem, "双方没有共同的语音编码", "The two sides have no codec in common", false},
	CauseLoop:          {500, 41, StatusFailed, EndedBySystem, "程序连续执行了 100 条指令而没有任何播放、输入或等待", "The program ran 100 instructions without any media, input or waiting", true},
	CauseWebhookFailed: {500, 41, StatusFailed, EndedBySystem, "应用没有给出可用的应答，且没有备用程序", "The application gave no usable answer and there was no fallback", true},
	CauseMediaTimeout:  {500, 27, StatusFailed, EndedBySystem, "长时间收不到对方的语音，判定为掉线", "No audio arrived from the other side for too long", true},
	CauseTimeLimit:     {480, 16, StatusNoAnswer, EndedBySystem, "达到最长通话时间", "The call reached its time limit", true},
	CauseOverload:      {503, 42, StatusFailed, EndedBySystem, "系统繁忙，暂时不能接受新的呼叫", "The system was too busy to take the call", false},
	CauseEdgeDrain:     {503, 41, StatusFailed, EndedBySystem, "边缘节点正在停机维护", "The edge was being shut down", true},
	CauseEdgeLost:      {503, 41, StatusFailed, EndedBySystem, "承载通话的边缘节点失去联系", "The edge that carried the call was lost", true},
	CauseError:         {500, 41, StatusFailed, EndedBySystem, "系统内部错误", "An internal error ended the call", true},
}

// Info returns the cause's row; an unknown cause has that of error.
func (c Cause) Info() CauseInfo {
	if info, ok := causes[c]; ok {
		return info
	}
	return causes[CauseError]
}

// Known reports whether c is a cause of the contract.
func (c Cause) Known() bool {
	_, ok := causes[c]
	return ok
}

// Causes returns every cause of the contract, in no particular order.
func Causes() []Cause {
	all := make([]Cause, 0, len(causes))
	for c := range causes {
		all = append(all, c)
	}
	return all
}

// CauseOfSIP classifies a final response that a called party gave (RFC 3261 §21, RFC 3398 §8.2.6.1).
func CauseOfSIP(code int) Cause {
	switch code {
	case 486, 600:
		return CauseBusy
	case 408, 480, 487:
		return CauseNoAnswer
	case 603, 607, 608:
		return CauseDeclined
	case 404, 410, 484, 604:
		return CauseNotFound
	case 401, 403, 407:
		return CauseNotAllowed
	case 415, 488, 606:
		return CauseNoCodec
	}
	return CauseUnreachable
}
