// interop is a service of the platform as its document writes one in Go: the same Event, Publisher and Consumer.
// The interop spec lets it read what we publish and publish what we read.
//
//	interop publish URL EXCHANGE KEY TENANT    publishes one event with KEY as its type, prints it as JSON
//	interop consume URL QUEUE N                prints N events as one JSON line each, acks them, ends
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
)

type Event struct {
	ID            string         `json:"id"`
	Type          string         `json:"type"`
	Source        string         `json:"source"`
	Timestamp     time.Time      `json:"timestamp"`
	TenantID      string         `json:"tenant_id"`
	CorrelationID string         `json:"correlation_id,omitempty"`
	Data          interface{}    `json:"data"`
	Metadata      map[string]any `json:"metadata,omitempty"`
}

type Publisher struct {
	channel *amqp.Channel
	source  string
}

func (p *Publisher) Publish(exchange, routingKey string, data interface{}, tenantID string) (Event, error) {
	event := Event{
		ID:        "evt_" + uuid.New().String(),
		Type:      routingKey,
		Source:    p.source,
		Timestamp: time.Now().UTC(),
		TenantID:  tenantID,
		Data:      data,
	}

	body, err := json.Marshal(event)
	if err != nil {
		return event, err
	}

	return event, p.channel.Publish(
		exchange,
		routingKey,
		false, // mandatory
		false, // immediate
		amqp.Publishing{
			ContentType:  "application/json",
			DeliveryMode: amqp.Persistent,
			Body:         body,
		},
	)
}

type Consumer struct {
	channel *amqp.Channel
}

type Handler func(event Event) error

// Subscribe hands what ends a delivery to settled: nil after the ack.
func (c *Consumer) Subscribe(queue string, handler Handler, settled chan<- error) error {
	msgs, err := c.channel.Consume(
		queue,
		"",    // consumer tag
		false, // auto-ack
		false, // exclusive
		false, // no-local
		false, // no-wait
		nil,
	)
	if err != nil {
		return err
	}

	go func() {
		for msg := range msgs {
			var event Event
			if err := json.Unmarshal(msg.Body, &event); err != nil {
				msg.Nack(false, false) // Don't requeue malformed messages
				settled <- fmt.Errorf("malformed event: %w: %s", err, msg.Body)
				continue
			}

			if err := handler(event); err != nil {
				msg.Nack(false, true) // Requeue on failure
				settled <- err
				continue
			}

			settled <- msg.Ack(false)
		}
		settled <- errors.New("the channel was closed")
	}()

	return nil
}

type OrderItem struct {
	ProductID string  `json:"product_id"`
	SKU       string  `json:"sku"`
	Quantity  int     `json:"quantity"`
	Price     float64 `json:"price"`
}

type Order struct {
	OrderID     string      `json:"order_id"`
	OrderNumber string      `json:"order_number"`
	CustomerID  string      `json:"customer_id"`
	Items       []OrderItem `json:"items"`
	Total       float64     `json:"total"`
	Currency    string      `json:"currency"`
	Status      string      `json:"status"`
	ChatID      int64       `json:"chat_id"`
}

const deadline = 30 * time.Second

func publish(channel *amqp.Channel, exchange, key, tenant string) error {
	if err := channel.Confirm(false); err != nil {
		return err
	}
	confirms := channel.NotifyPublish(make(chan amqp.Confirmation, 1))
	publisher := Publisher{channel: channel, source: "oms-service"}
	event, err := publisher.Publish(exchange, key, Order{
		OrderID: "order_xyz", OrderNumber: "ORD-2024-001", CustomerID: "cust_123",
		Items: []OrderItem{{ProductID: "prod_456", SKU: "SKU001", Quantity: 2, Price: 500.00}},
		Total: 1000.00, Currency: "UAH", Status: "pending",
		ChatID: -1001234567890,
	}, tenant)
	if err != nil {
		return err
	}
	select {
	case confirm := <-confirms:
		if !confirm.Ack {
			return errors.New("not confirmed")
		}
	case <-time.After(deadline):
		return errors.New("no confirm in time")
	}
	return json.NewEncoder(os.Stdout).Encode(event)
}

func consume(channel *amqp.Channel, queue string, count int) error {
	if err := channel.Qos(count, 0, false); err != nil {
		return err
	}
	consumer := Consumer{channel: channel}
	settled := make(chan error, count+1)
	output := json.NewEncoder(os.Stdout)
	handled := 0
	handler := func(event Event) error {
		if handled == count {
			select {} // what came beyond the count stays unacked, and goes back to the queue
		}
		handled++
		return output.Encode(event)
	}
	if err := consumer.Subscribe(queue, handler, settled); err != nil {
		return err
	}
	end := time.After(deadline)
	for i := 0; i < count; i++ {
		select {
		case err := <-settled:
			if err != nil {
				return err
			}
		case <-end:
			return fmt.Errorf("%d of %d events in %s", i, count, deadline)
		}
	}
	return nil
}

func run(args []string) error {
	usage := errors.New("usage: interop publish URL EXCHANGE KEY TENANT | interop consume URL QUEUE N")
	if len(args) < 2 {
		return usage
	}
	connection, err := amqp.Dial(args[1])
	if err != nil {
		return err
	}
	defer connection.Close()
	channel, err := connection.Channel()
	if err != nil {
		return err
	}
	switch {
	case args[0] == "publish" && len(args) == 5:
		return publish(channel, args[2], args[3], args[4])
	case args[0] == "consume" && len(args) == 4:
		count, err := strconv.Atoi(args[3])
		if err != nil || count < 1 {
			return usage
		}
		return consume(channel, args[2], count)
	}
	return usage
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		os.Exit(1)
	}
}
